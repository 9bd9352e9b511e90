/* What the tests need of C: a thread that Python does not know, and, where this is preloaded, a count of allocations. */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct call {
    int (*step)(void *);
    const char *(*message)(void);
    void *plan;
    char *text;
    int status;
};

static void *run(void *data)
{
    struct call *call = data;
    call->status = call->step(call->plan);
    strcpy(call->text, call->message());
    return NULL;
}

int in_a_thread(int (*step)(void *), const char *(*message)(void), void *plan, char *text)
{
    struct call call = {step, message, plan, text, -1};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, &call) == 0)
        pthread_join(thread, NULL);
    return call.status;
}

static struct {
    int (*step)(void *);
    void *plan;
    volatile long made;
} many;

static void *run_many(void *wanted)
{
    while (many.made < (long)wanted && many.step(many.plan) == 0)
        many.made++;
    return NULL;
}

/* How many steps a thread makes while this one, which is called with the GIL, keeps it: for at most ten seconds. */
long steps_without_gil(int (*step)(void *), void *plan, long wanted)
{
    pthread_t thread;
    many.step = step, many.plan = plan, many.made = 0;
    if (pthread_create(&thread, NULL, run_many, (void *)wanted) != 0)
        return -1;
    for (int i = 0; i < 10000 && many.made < wanted; i++)
        usleep(1000);
    pthread_detach(thread);
    return many.made;
}

#ifdef __GLIBC__ /* whose own names let these take the place of malloc */

static long count;

long allocations(void)
{
    return count;
}

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

void *malloc(size_t size)
{
    count++;
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count++;
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count++;
    return __libc_realloc(old, size);
}

#endif
