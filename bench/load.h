/* What the modes of load.c stand on: options, time, latencies, frames, sockets, the handshake.
 * It is included once, by load.c.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

#define MASKED_FRAMES 32    /* distinct masks; more would only fill the cache */
#define STALL_MS 10000      /* without any event for so long, the server is taken for dead */
#define EVENTS 256
#define HEAD_LIMIT 8192
#define NS 1000000000ull

enum mode { CALLS, ECHO, HANDSHAKES, IDLE };

static struct {
    enum mode mode;
    int port, connections, depth, fixed_mask, tls, polls;
    double seconds, warm_up;
    const char *path;
} options = {.connections = 64, .depth = 1, .seconds = 2, .warm_up = 0.3, .path = "/"};

/* `frames`: as many client frames as a burst from any of the first `distinct` may need. */
static uint8_t *frames, *expected;
static size_t frame_length, expected_length;
static int distinct;

static char upgrade[1024];
static size_t upgrade_length;
static int epoll;

#ifdef WITH_TLS
static SSL_CTX *tls_context;
#endif

struct connection {
    int fd;
    size_t at;              /* bytes of the expected reply that have come */
    int outstanding;        /* messages on their way */
    int owed;               /* messages to send when the socket takes more */
    const uint8_t *unsent;
    size_t unsent_length;
    int next_frame;
    int waits_for_write;
    uint64_t *sent_at;      /* a ring: replies come in the order of the messages */
    unsigned sent, received;
    uint8_t control[2 + 125];
    size_t control_length;  /* bytes of a control frame of the server's */
    char *head;             /* handshakes: the answer so far */
    size_t head_length;
    int is_upgraded;
#ifdef WITH_TLS
    SSL *ssl;
#endif
};

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS + (uint64_t)time.tv_nsec;
}

/* What the scheduler has given this process, in nanoseconds: `worked` on its core, `waited` while
 * the core ran something else (0 where Linux does not count it; proc(5)). */
struct usage {
    uint64_t worked, waited;
};

static uint64_t worked_until_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * NS + (uint64_t)time.tv_nsec;
}

static struct usage usage(void) {
    struct usage used = {worked_until_now(), 0};
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (file) {
        unsigned long long ran, waited;
        if (fscanf(file, "%llu %llu", &ran, &waited) == 2) used.waited = waited;
        fclose(file);
    }
    return used;
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("out of memory");
    return memory;
}

/* Latencies: 64 buckets to each power of two of nanoseconds, so that a bucket is within 1.6 %. */

#define STEPS 64
static struct {
    uint64_t counts[64 * STEPS];
    uint64_t total, largest;
} histogram;

static unsigned bucket_of(uint64_t ns) {
    if (ns < STEPS) return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - 6;
    return (shift + 1) * STEPS + (unsigned)((ns >> shift) - STEPS);
}

static double bucket_us(unsigned bucket) {
    if (bucket < STEPS) return bucket / 1e3;
    unsigned shift = bucket / STEPS - 1;
    return (double)((uint64_t)(STEPS + bucket % STEPS) << shift) / 1e3;
}

static void record(uint64_t ns) {
    histogram.counts[bucket_of(ns)]++;
    histogram.total++;
    if (ns > histogram.largest) histogram.largest = ns;
}

static double quantile_us(double part) {
    uint64_t wanted = (uint64_t)(part * (double)histogram.total), seen = 0;
    for (unsigned bucket = 0; bucket < 64 * STEPS; bucket++) {
        seen += histogram.counts[bucket];
        if (seen > wanted) return bucket_us(bucket);
    }
    return (double)histogram.largest / 1e3;
}

/* Frames */

static uint8_t *read_file(const char *name, size_t *length) {
    FILE *file = fopen(name, "rb");
    if (!file) fail("%s: %s", name, strerror(errno));
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *content = allocate((size_t)size, 1);
    if (fread(content, 1, (size_t)size, file) != (size_t)size) fail("%s: short read", name);
    fclose(file);
    *length = (size_t)size;
    return content;
}

static size_t put_header(uint8_t *to, uint8_t first, size_t length, uint8_t mask_bit) {
    to[0] = first;
    if (length < 126) {
        to[1] = (uint8_t)(mask_bit | length);
        return 2;
    }
    int bytes = length < 65536 ? 2 : 8;
    to[1] = (uint8_t)(mask_bit | (bytes == 2 ? 126 : 127));
    for (int i = 0; i < bytes; i++) to[2 + i] = (uint8_t)(length >> (8 * (bytes - 1 - i)));
    return (size_t)(2 + bytes);
}

static size_t put_masked(uint8_t *to, uint8_t first, const uint8_t *text, size_t length,
                         const uint8_t mask[4]) {
    size_t header = put_header(to, first, length, 0x80);
    memcpy(to + header, mask, 4);
    header += 4;
    for (size_t i = 0; i < length; i++) to[header + i] = text[i] ^ mask[i & 3];
    return header + length;
}

static void make_frames(const uint8_t *message, size_t length) {
    uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    distinct = options.fixed_mask || options.mode == ECHO ? 1 : MASKED_FRAMES;
    int count = distinct + options.depth - 1;
    uint8_t header[14];
    frame_length = put_header(header, 0x81, length, 0x80) + 4 + length;
    frames = allocate((size_t)count, frame_length);
    for (int i = 0; i < distinct; i++) {
        if (distinct > 1 && getrandom(mask, 4, 0) != 4) fail("getrandom: %s", strerror(errno));
        put_masked(frames + (size_t)i * frame_length, 0x81, message, length, mask);
    }
    for (int i = distinct; i < count; i++)
        memcpy(frames + (size_t)i * frame_length, frames + (size_t)(i - distinct) * frame_length,
               frame_length);
}

static void expect_reply(const uint8_t *reply, size_t length) {
    if (options.mode == ECHO) {
        expected = frames;
        expected_length = frame_length;
        return;
    }
    expected = allocate(length + 10, 1);
    size_t header = put_header(expected, 0x81, length, 0);
    memcpy(expected + header, reply, length);
    expected_length = header + length;
}

/* Sockets, plain or TLS. transmit and receive return 0 when they would block. */

static ssize_t transmit(struct connection *c, const void *bytes, size_t length) {
#ifdef WITH_TLS
    if (c->ssl) {
        size_t written = 0;
        if (SSL_write_ex(c->ssl, bytes, length, &written)) return (ssize_t)written;
        int error = SSL_get_error(c->ssl, 0);
        if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) return 0;
        fail("TLS write failed (%d)", error);
    }
#endif
    ssize_t written = send(c->fd, bytes, length, MSG_NOSIGNAL);
    if (written >= 0) return written;
    if (errno != EAGAIN && errno != EINTR) fail("send: %s", strerror(errno));
    return 0;
}

/* Returns -1 at the end of the stream. */
static ssize_t receive(struct connection *c, void *to, size_t size) {
#ifdef WITH_TLS
    if (c->ssl) {
        size_t got = 0;
        if (SSL_read_ex(c->ssl, to, size, &got)) return (ssize_t)got;
        int error = SSL_get_error(c->ssl, 0);
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return 0;
        return -1;
    }
#endif
    ssize_t got = recv(c->fd, to, size, 0);
    if (got > 0) return got;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    return -1;
}

static int new_socket(int flags) {
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0), on = 1;
    if (fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int start_connect(int fd) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd, (struct sockaddr *)&address, sizeof address);
}

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

static void make_upgrade(void) {
    upgrade_length = (size_t)snprintf(
        upgrade, sizeof upgrade,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        options.path, options.port);
    if (upgrade_length >= sizeof upgrade) fail("the path is too long");
}

/* The key above is the example of RFC 6455, section 1.3, and so is the answer. */
static void check_upgrade(const char *head) {
    if (strncmp(head, "HTTP/1.1 101", 12) || !strstr(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
        fail("the handshake was answered by: %.200s", head);
}

/* Open one connection, waiting for each step, and leave it non-blocking and watched. */
static void open_connection(struct connection *c) {
    c->fd = new_socket(0);
    struct timeval limit = {.tv_sec = STALL_MS / 1000};
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (start_connect(c->fd)) fail("connect: %s", strerror(errno));
#ifdef WITH_TLS
    if (options.tls) {
        c->ssl = SSL_new(tls_context);
        SSL_set_fd(c->ssl, c->fd);
        if (SSL_connect(c->ssl) != 1)
            fail("TLS handshake: %s", ERR_error_string(ERR_get_error(), NULL));
    }
#endif
    if (options.mode != ECHO) {
        char head[HEAD_LIMIT];
        size_t length = 0;
        if (transmit(c, upgrade, upgrade_length) != (ssize_t)upgrade_length) fail("short send");
        while (length < 4 || memcmp(head + length - 4, "\r\n\r\n", 4)) {
            /* By bytes: what follows the head belongs to the frames. */
            if (length == sizeof head - 1 || receive(c, head + length, 1) <= 0) {
                head[length] = 0;
                fail("the handshake did not end: %.200s", head);
            }
            length++;
        }
        head[length] = 0;
        check_upgrade(head);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}
