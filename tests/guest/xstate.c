/* Preloaded into User-Mode Linux, so that it boots on processors with AMX.

   Linux 6.1 for the architecture um keeps 2,696 bytes of a program's extended registers: all up to AVX-512 and
   protection keys. The kernel of the machine accepts them back only as a whole (x86's xstateregs_set answers EFAULT to
   any other size), and with AMX the whole is 11,008 bytes, so the first program of the guest is the last. What is beyond
   those bytes is in its initial state in a guest, where nothing can ask for the permission to use AMX. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { FEATURES_AT = 512, LARGEST = 1 << 16 };
static const uint64_t KEPT = 0x2ff; /* x87, SSE, AVX, MPX, AVX-512, protection keys */

static long (*next)(int, pid_t, void *, void *);
static size_t whole;
static char state[LARGEST] __attribute__((aligned(64)));

__attribute__((constructor)) static void find_next(void) {
    next = (long (*)(int, pid_t, void *, void *))dlsym(RTLD_NEXT, "ptrace");
}

static long set_whole_state(pid_t pid, void *type, const struct iovec *given) {
    struct iovec all = {state, sizeof state};
    uint64_t features;

    if (whole == 0) {
        if (next(PTRACE_GETREGSET, pid, type, &all) < 0)
            return -1;
        whole = all.iov_len;
        memset(state, 0, sizeof state);
    }
    if (given->iov_len >= whole)
        return next(PTRACE_SETREGSET, pid, type, (void *)given);
    memcpy(state, given->iov_base, given->iov_len);
    memcpy(&features, state + FEATURES_AT, sizeof features);
    features &= KEPT;
    memcpy(state + FEATURES_AT, &features, sizeof features);
    all.iov_len = whole;
    return next(PTRACE_SETREGSET, pid, type, &all);
}

long ptrace(enum __ptrace_request request, ...) {
    va_list more;
    va_start(more, request);
    pid_t pid = va_arg(more, pid_t);
    void *address = va_arg(more, void *);
    void *data = va_arg(more, void *);
    va_end(more);
    if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE)
        return set_whole_state(pid, address, data);
    return next(request, pid, address, data);
}
