/* What the tests need of C: a thread that Python does not know, and, where this is preloaded, a count of allocations. */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

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
