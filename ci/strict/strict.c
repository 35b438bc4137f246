/* A library to preload: it makes Linux answer as other systems do, mostly as macOS.
 *
 * Each rule is counted, in a file that all processes of a run share, so that `ci/portability` can
 * show that none was idle: where it changes an answer, and rules about arguments (address-length,
 * large-sum, select-long, surplus-fds, send-waits) at each call whose arguments they judge.
 * Environment:
 *
 *   STRICT_COUNTS=FILE   the counters, one 64-bit number for each rule in the order of `RULES`
 *   STRICT_RULES=A,B     the rules to apply; all but those that `RULES` marks as extra by default
 *   STRICT_SEED=N        decides when the rules that apply now and then do so
 *
 * Build: cc -O2 -shared -fPIC -o strict.so strict.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

/* `TCP_CLOSE` of netinet/tcp.h, whose `tcp_info` lacks the number of segments. */
#define STATE_CLOSE 7

enum rule {
    ADDRESS_LENGTH,    /* illumos: an address of any length but that of its family is EINVAL */
    ENDED_READ,        /* macOS, BSDs: a socket whose connect failed reads as ended */
    LOST_ERROR,        /* BSDs: now and then the error of a connect is lost */
    SEND_WAITS,        /* macOS: MSG_DONTWAIT has no effect on sending */
    SURPLUS_FDS,       /* macOS: passed descriptors that find no room are open all the same */
    ENDED_OPTIONS,     /* macOS: options and names of a connection that has ended are EINVAL */
    ACCEPT_LOSES,      /* macOS: accept at EMFILE closes the connection */
    FULL_DATAGRAM,     /* macOS, BSDs: a full queue of Unix datagrams is ENOBUFS */
    STREAM_ENOBUFS,    /* macOS: now and then there is no buffer for a write to a stream */
    LARGE_SUM,         /* macOS: vectors that sum up to more than INT_MAX are EINVAL */
    SELECT_EAGAIN,     /* now and then select has no memory for its sets */
    SELECT_LONG,       /* macOS: a limit of more than 10^8 seconds is EINVAL */
    SPURIOUS,          /* now and then select reports a non-blocking descriptor for nothing */
    N_RULES
};

static const struct {
    const char *name;
    int is_extra;
} RULES[N_RULES] = {
    {"address-length", 0}, {"ended-read", 0},     {"lost-error", 1},    {"send-waits", 0},
    {"surplus-fds", 0},    {"ended-options", 0},  {"accept-loses", 0},  {"full-datagram", 0},
    {"stream-enobufs", 1}, {"large-sum", 0},      {"select-eagain", 1}, {"select-long", 0},
    {"spurious", 1},
};

static _Atomic uint64_t *counts;
static int is_applied[N_RULES];
static _Atomic uint64_t n_draws;
static uint64_t seed;

__attribute__((constructor)) static void begin(void)
{
    const char *list = getenv("STRICT_RULES"), *number = getenv("STRICT_SEED");
    seed = number ? strtoull(number, NULL, 10) : 1;
    for (int rule = 0; rule < N_RULES; rule++) {
        is_applied[rule] = list ? strstr(list, RULES[rule].name) != NULL : !RULES[rule].is_extra;
    }
    const char *file = getenv("STRICT_COUNTS");
    int fd = file ? (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *map = mmap(NULL, N_RULES * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        counts = map == MAP_FAILED ? NULL : map;
        syscall(SYS_close, fd);
    }
}

/* Whether the rule is on; counts it. Call it only where the answer of the system changes. */
static int apply(enum rule rule)
{
    if (is_applied[rule] && counts) {
        atomic_fetch_add(&counts[rule], 1);
    }
    return is_applied[rule];
}

/* True once in about `n` draws. */
static int now_and_then(unsigned n)
{
    /* splitmix64: good bits from a counter, without a lock that a fork could leave held. */
    uint64_t x = seed * 0x9e3779b97f4a7c15u + atomic_fetch_add(&n_draws, 1) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (x ^ (x >> 31)) % n == 0;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    int saved = errno;
    if (syscall(SYS_getsockopt, fd, level, name, &value, &len) != 0) {
        value = -1;
    }
    errno = saved;
    return value;
}

static int is_blocking(int fd)
{
    int saved = errno;
    long flags = syscall(SYS_fcntl, fd, F_GETFL);
    errno = saved;
    return flags >= 0 && !(flags & O_NONBLOCK);
}

static int is_stream(int fd)
{
    return option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM;
}

/* Whether `fd` is a TCP socket that has sent something, and is connected no more. */
static int has_ended(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    int saved = errno;
    memset(&info, 0, sizeof info);
    int ended = option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP &&
        syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
        info.tcpi_state == STATE_CLOSE && info.tcpi_segs_out > 0;
    errno = saved;
    return ended;
}

static int has_wrong_length(const struct sockaddr *addr, socklen_t len)
{
    return addr && ((addr->sa_family == AF_INET && len != sizeof(struct sockaddr_in)) ||
                    (addr->sa_family == AF_INET6 && len != sizeof(struct sockaddr_in6)));
}

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (apply(ADDRESS_LENGTH) && has_wrong_length(addr, len)) {
        return fail(EINVAL);
    }
    return (int)syscall(SYS_bind, fd, addr, len);
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    if (apply(ADDRESS_LENGTH) && has_wrong_length(addr, len)) {
        return fail(EINVAL);
    }
    return (int)syscall(SYS_connect, fd, addr, len);
}

/* What a read returns, by what Linux has returned. */
static ssize_t after_read(int fd, ssize_t n)
{
    int is_end = n == 0 || (n < 0 && errno == ENOTCONN);
    return is_end && is_applied[ENDED_READ] && has_ended(fd) && apply(ENDED_READ) ? 0 : n;
}

ssize_t recvfrom(int fd, void *bytes, size_t n, int flags, struct sockaddr *addr, socklen_t *len)
{
    return after_read(fd, syscall(SYS_recvfrom, fd, bytes, n, flags, addr, len));
}

ssize_t recv(int fd, void *bytes, size_t n, int flags)
{
    return recvfrom(fd, bytes, n, flags, NULL, NULL);
}

static int is_too_large(const struct iovec *slices, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += slices[i].iov_len;
    }
    return apply(LARGE_SUM) && sum > INT_MAX;
}

ssize_t readv(int fd, const struct iovec *slices, int n)
{
    if (n > 0 && is_too_large(slices, (size_t)n)) {
        return fail(EINVAL);
    }
    return after_read(fd, syscall(SYS_readv, fd, slices, n));
}

ssize_t writev(int fd, const struct iovec *slices, int n)
{
    if (n > 0 && is_too_large(slices, (size_t)n)) {
        return fail(EINVAL);
    }
    return syscall(SYS_writev, fd, slices, n);
}

/* What a write shall be called with. Negative: it shall fail. */
static int before_send(int fd, int flags)
{
    if (is_applied[STREAM_ENOBUFS] && !is_blocking(fd) && is_stream(fd) && now_and_then(64)) {
        apply(STREAM_ENOBUFS);
        return fail(ENOBUFS);
    }
    if (is_applied[SEND_WAITS] && is_blocking(fd)) {
        apply(SEND_WAITS);
        return flags & ~MSG_DONTWAIT;
    }
    return flags;
}

static ssize_t after_send(int fd, ssize_t n)
{
    if (n < 0 && errno == EAGAIN && option(fd, SOL_SOCKET, SO_DOMAIN) == AF_UNIX &&
        option(fd, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM && apply(FULL_DATAGRAM)) {
        return fail(ENOBUFS);
    }
    return n;
}

ssize_t sendto(int fd, const void *bytes, size_t n, int flags, const struct sockaddr *addr,
               socklen_t len)
{
    if (addr && apply(ADDRESS_LENGTH) && has_wrong_length(addr, len)) {
        return fail(EINVAL);
    }
    flags = before_send(fd, flags);
    return flags < 0 ? -1 : after_send(fd, syscall(SYS_sendto, fd, bytes, n, flags, addr, len));
}

ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
    return sendto(fd, bytes, n, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (is_too_large(message->msg_iov, message->msg_iovlen)) {
        return fail(EINVAL);
    }
    flags = before_send(fd, flags);
    return flags < 0 ? -1 : after_send(fd, syscall(SYS_sendmsg, fd, message, flags));
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    /* Room for more descriptors than a message can carry. */
    char room[CMSG_SPACE(300 * sizeof(int))] __attribute__((aligned(16)));
    if (is_too_large(message->msg_iov, message->msg_iovlen)) {
        return fail(EINVAL);
    }
    if (!message->msg_control || !apply(SURPLUS_FDS) || message->msg_controllen >= sizeof room) {
        return after_read(fd, syscall(SYS_recvmsg, fd, message, flags));
    }
    struct msghdr large = *message;
    large.msg_control = room;
    large.msg_controllen = sizeof room;
    ssize_t n = after_read(fd, syscall(SYS_recvmsg, fd, &large, flags));
    if (n < 0) {
        return n;
    }
    size_t given = message->msg_controllen;
    message->msg_namelen = large.msg_namelen;
    message->msg_flags = large.msg_flags;
    message->msg_controllen = large.msg_controllen < given ? large.msg_controllen : given;
    memcpy(message->msg_control, room, message->msg_controllen);
    if (large.msg_controllen > given) {
        /* The surplus stays open, and the caller never learns its numbers. */
        message->msg_flags |= MSG_CTRUNC;
        struct cmsghdr *head = CMSG_FIRSTHDR(message);
        if (head) {
            size_t data = given - (size_t)((char *)CMSG_DATA(head) - (char *)head);
            head->cmsg_len = CMSG_LEN(data / sizeof(int) * sizeof(int));
        }
    }
    return n;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    if (has_ended(fd) && apply(ENDED_OPTIONS)) {
        return fail(EINVAL);
    }
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    if (has_ended(fd) && apply(ENDED_OPTIONS)) {
        return fail(EINVAL);
    }
    return (int)syscall(SYS_getsockname, fd, addr, len);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    int result = (int)syscall(SYS_getsockopt, fd, level, name, value, len);
    int is_error = result == 0 && level == SOL_SOCKET && name == SO_ERROR && *len == sizeof(int);
    if (is_error && *(int *)value != 0 && has_ended(fd) && apply(LOST_ERROR)) {
        *(int *)value = 0;
    }
    return result;
}

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    int accepted = (int)syscall(SYS_accept4, fd, addr, len, flags);
    struct rlimit limit, more;
    if (accepted >= 0 || errno != EMFILE || !is_applied[ACCEPT_LOSES]) {
        return accepted;
    }
    /* The connection is lost: taken with a limit that is raised for a moment, and closed. */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        more.rlim_cur = limit.rlim_cur + 8;
        more.rlim_max = limit.rlim_max < more.rlim_cur ? more.rlim_cur : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &more) == 0) {
            accepted = (int)syscall(SYS_accept4, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            setrlimit(RLIMIT_NOFILE, &limit);
            if (accepted >= 0) {
                apply(ACCEPT_LOSES);
                syscall(SYS_close, accepted);
            }
        }
    }
    return fail(EMFILE);
}

int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    return accept4(fd, addr, len, 0);
}

/* Reports up to one descriptor of `asked` that is not ready, if it does not block. */
static int add_spurious(int n, const fd_mask *asked, fd_mask *ready)
{
    int bits = 8 * (int)sizeof(fd_mask);
    for (int fd = 0; fd < n; fd++) {
        fd_mask bit = (fd_mask)(1ul << fd % bits);
        if ((asked[fd / bits] & bit) && !(ready[fd / bits] & bit) && !is_blocking(fd) &&
            option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0 && now_and_then(2)) {
            ready[fd / bits] |= bit;
            apply(SPURIOUS);
            return 1;
        }
    }
    return 0;
}

int select(int n, fd_set *reads, fd_set *writes, fd_set *excepts, struct timeval *limit)
{
    static int (*next)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
    fd_set *sets[3] = {reads, writes, excepts};
    /* The sets may be larger than an `fd_set`. */
    fd_mask asked[3][1024];
    size_t bytes = ((size_t)n + 8 * sizeof(fd_mask) - 1) / (8 * sizeof(fd_mask)) * sizeof(fd_mask);
    if (!next) {
        next = (int (*)(int, fd_set *, fd_set *, fd_set *, struct timeval *))dlsym(RTLD_NEXT, "select");
    }
    if (limit && apply(SELECT_LONG) && limit->tv_sec > 100000000) {
        return fail(EINVAL);
    }
    if (is_applied[SELECT_EAGAIN] && now_and_then(16) && apply(SELECT_EAGAIN)) {
        return fail(EAGAIN);
    }
    if (!is_applied[SPURIOUS] || !reads || bytes > sizeof asked[0] || !now_and_then(4)) {
        return next(n, reads, writes, excepts, limit);
    }
    for (int i = 0; i < 3; i++) {
        if (sets[i]) {
            memcpy(asked[i], sets[i], bytes);
        }
    }
    struct timeval zero = {0, 0};
    int n_ready = next(n, reads, writes, excepts, &zero);
    if (n_ready >= 0) {
        n_ready += add_spurious(n, asked[0], (fd_mask *)reads);
    }
    if (n_ready != 0) {
        return n_ready;
    }
    /* Nothing is ready, and nothing was invented: wait as asked. */
    for (int i = 0; i < 3; i++) {
        if (sets[i]) {
            memcpy(sets[i], asked[i], bytes);
        }
    }
    return next(n, reads, writes, excepts, limit);
}
