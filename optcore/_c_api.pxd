"""What C and Cython code of others may call: declared here, described in include/optcore.h."""

from libc.stdint cimport int64_t


cdef extern from "optcore.h" nogil:
    enum:
        OK "OPTCORE_OK"
        BAD_ARGUMENT "OPTCORE_BAD_ARGUMENT"
        REFUSED "OPTCORE_REFUSED"
        NOT_FINITE "OPTCORE_NOT_FINITE"
        FAILED "OPTCORE_FAILED"

    ctypedef struct Rule "optcore_rule":
        pass
    ctypedef struct Update "optcore_update":
        pass
    ctypedef struct Schedule "optcore_schedule":
        pass
    ctypedef struct OpenPlan "optcore_plan":
        pass


cdef const char* message() noexcept nogil
cdef int check(int status) except -1 nogil

cdef const Rule* find_rule(const char* name) noexcept nogil
cdef const Rule* rule_at(int index) noexcept nogil
cdef const char* rule_name(const Rule* rule) noexcept nogil
cdef int state_count(const Rule* rule) noexcept nogil
cdef const char* state_name(const Rule* rule, int index) noexcept nogil
cdef int hyper_count(const Rule* rule) noexcept nogil
cdef const char* hyper_name(const Rule* rule, int index) noexcept nogil
cdef int prepare(const Rule* rule, Update* update, int64_t t, const double* hyper) noexcept nogil
cdef int apply32(
    const Rule* rule, const Update* update, int64_t n, float* p, const float* g, float* const* state
) noexcept nogil
cdef int apply64(
    const Rule* rule, const Update* update, int64_t n, double* p, const double* g, double* const* state
) noexcept nogil

cdef const Schedule* find_schedule(void* schedule) noexcept with gil
cdef double schedule_value(const Schedule* schedule, int64_t t) noexcept nogil
cdef double schedule_at(double t, void* schedule) noexcept nogil

cdef int open_plan(void* optimizer, OpenPlan** plan) noexcept with gil
cdef int step_plan(OpenPlan* plan) noexcept nogil
cdef int64_t plan_updates(const OpenPlan* plan) noexcept nogil
cdef int close_plan(OpenPlan* plan) noexcept with gil
