/* A closed-loop load generator for WebSocket servers: one thread, epoll.
 *
 *   cc -O2 -o load load.c                                  without TLS
 *   cc -O2 -DWITH_TLS -o load load.c -lssl -lcrypto        with TLS, by OpenSSL
 *
 *   load MODE PORT [-c connections] [-d in-flight] [-s seconds] [-w warm-up seconds]
 *                  [-m message file] [-e expected file] [-p path] [-f] [-t] [-b]
 *
 *   calls       keep `in-flight` messages on each connection; count the replies, time each one
 *   echo        the same against a plain TCP echo: no handshake, the bytes of the frame come back
 *   handshakes  connect, upgrade, close by a closing handshake, again; count the upgrades
 *   idle        open the connections, print "ready", hold them until standard input ends; at
 *               each line of it make a call on each connection, then print "called"
 *
 *   -f   one fixed mask for all messages; else each message has one of MASKED_FRAMES random ones
 *   -t   TLS
 *   -b   never sleep: look for replies again and again. Whoever writes to one that sleeps has to
 *        wake it, and it is the server's time that this would take.
 *
 * Every reply must be one unfragmented, unmasked text frame that holds the bytes of the expected
 * file. Anything else ends the run with status 1 and a line on standard error. Pings are answered.
 * The result is one JSON object on standard output; times are in microseconds.
 */
#include "load.h"

/* Calls */

static void flush_messages(struct connection *c) {
    for (;;) {
        if (!c->unsent_length) {
            if (!c->owed) break;
            uint64_t time = now();
            for (int i = 0; i < c->owed; i++)
                c->sent_at[c->sent++ % (unsigned)options.depth] = time;
            c->unsent = frames + (size_t)c->next_frame * frame_length;
            c->unsent_length = (size_t)c->owed * frame_length;
            c->next_frame = (c->next_frame + c->owed) % distinct;
            c->outstanding += c->owed;
            c->owed = 0;
        }
        ssize_t written = transmit(c, c->unsent, c->unsent_length);
        if (!written) {
            if (!c->waits_for_write) watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            c->waits_for_write = 1;
            return;
        }
        c->unsent += written;
        c->unsent_length -= (size_t)written;
    }
    if (c->waits_for_write) watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->waits_for_write = 0;
}

/* Take bytes of a control frame; return how many. */
static size_t take_control(struct connection *c, const uint8_t *bytes, size_t length) {
    size_t taken = 0;
    while (taken < length) {
        c->control[c->control_length++] = bytes[taken++];
        if (c->control_length < 2) continue;
        if (c->control[1] > 125) fail("a control frame is malformed");
        if (c->control_length < 2u + c->control[1]) continue;
        c->control_length = 0;
        if (c->control[0] == 0x88)
            fail("the server closes with %d",
                 c->control[1] < 2 ? 1005 : c->control[2] << 8 | c->control[3]);
        if (c->control[0] == 0x89) {
            static const uint8_t mask[4] = {1, 2, 3, 4};
            uint8_t pong[6 + 125];
            size_t size = put_masked(pong, 0x8a, c->control + 2, c->control[1], mask);
            /* In the middle of a message of ours it would break it: then it is not answered. */
            if (!c->unsent_length && transmit(c, pong, size) != (ssize_t)size) fail("short pong");
        }
        break;
    }
    return taken;
}

/* Compare what has come with what is expected; return how many replies are complete. */
static int take_replies(struct connection *c, const uint8_t *bytes, size_t length) {
    int complete = 0;
    while (length) {
        size_t taken;
        if (c->control_length || (!c->at && options.mode != ECHO && (bytes[0] & 0x88) == 0x88)) {
            taken = take_control(c, bytes, length);
        } else {
            taken = expected_length - c->at < length ? expected_length - c->at : length;
            if (memcmp(bytes, expected + c->at, taken)) {
                fail("a wrong reply, from byte %zu on: %.*s", c->at,
                     (int)(length < 300 ? length : 300), (const char *)bytes);
            }
            c->at += taken;
            if (c->at == expected_length) {
                c->at = 0;
                if (complete++ == c->outstanding) fail("a reply that nobody asked for");
            }
        }
        bytes += taken;
        length -= taken;
    }
    return complete;
}

static uint8_t buffer[1 << 20];

static int read_replies(struct connection *c) {
    int complete = 0;
    for (;;) {
        ssize_t got = receive(c, buffer, sizeof buffer);
        if (got < 0) fail("the server has closed a connection");
        if (!got) return complete;
        int fresh = take_replies(c, buffer, (size_t)got);
        c->outstanding -= fresh;
        complete += fresh;
#ifdef WITH_TLS
        if (c->ssl) continue; /* OpenSSL may hold more than the socket shows */
#endif
        if ((size_t)got < sizeof buffer) return complete;
    }
}

/* Time of the processor spent looking for replies that are not there. */
static uint64_t looked;

/* `busy` is the part of the time that this process worked: near 1, it is what limits the rate.
 * `load_waited` is the part for which something else had its core. */
static void report_rate(uint64_t count, uint64_t elapsed, struct usage before, int has_latency) {
    struct usage after = usage();
    uint64_t worked = after.worked - before.worked;
    printf("{\"rate\": %.1f, \"count\": %llu, \"seconds\": %.4f, \"busy\": %.3f, \"load_waited\": %.3f",
           (double)count * NS / (double)elapsed, (unsigned long long)count, (double)elapsed / NS,
           (double)(worked > looked ? worked - looked : 0) / (double)elapsed,
           (double)(after.waited - before.waited) / (double)elapsed);
    if (has_latency)
        printf(", \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f", quantile_us(0.5), quantile_us(0.99),
               (double)histogram.largest / 1e3);
    puts("}");
}

static int wait_for_events(struct epoll_event *events) {
    if (!options.polls) return epoll_wait(epoll, events, EVENTS, STALL_MS);
    int ready = epoll_wait(epoll, events, EVENTS, 0);
    if (ready) return ready;
    uint64_t begun = now(), worked = worked_until_now();
    do {
        ready = epoll_wait(epoll, events, EVENTS, 0);
    } while (!ready && now() - begun < (uint64_t)STALL_MS * (NS / 1000));
    looked += worked_until_now() - worked;
    return ready;
}

static void run_calls(void) {
    struct connection *all = allocate((size_t)options.connections, sizeof *all);
    for (int i = 0; i < options.connections; i++) {
        all[i].sent_at = allocate((size_t)options.depth, sizeof(uint64_t));
        all[i].next_frame = i % distinct;
        open_connection(&all[i]);
    }
    uint64_t start = now() + (uint64_t)(options.warm_up * (double)NS), time = 0, replies = 0;
    struct usage before = usage();
    uint64_t end = start + (uint64_t)(options.seconds * (double)NS);
    int is_counting = 0;
    for (int i = 0; i < options.connections; i++) {
        all[i].owed = options.depth;
        flush_messages(&all[i]);
    }
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = wait_for_events(events);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) fail("no reply within %d s", STALL_MS / 1000);
        time = now();
        if (!is_counting && time >= start) {
            is_counting = 1;
            start = time;
            before = usage();
            looked = 0;
        }
        if (time >= end) break;
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            int complete = read_replies(c);
            if (complete) {
                time = now();
                for (int k = 0; k < complete; k++) {
                    uint64_t sent = c->sent_at[c->received++ % (unsigned)options.depth];
                    if (is_counting) record(time - sent);
                }
                if (is_counting) replies += (uint64_t)complete;
                c->owed += complete;
            }
            if (c->owed || c->unsent_length) flush_messages(c);
        }
    }
    if (!replies) fail("no reply while it counted");
    report_rate(replies, time - start, before, 1);
}

/* Handshakes */

static void begin_handshake(struct connection *c) {
    c->fd = new_socket(SOCK_NONBLOCK);
    c->head_length = 0;
    c->is_upgraded = 0;
    if (start_connect(c->fd) && errno != EINPROGRESS) fail("connect: %s", strerror(errno));
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

/* The peer has closed by now: the reset only spares the port its TIME_WAIT. */
static void end_handshake(struct connection *c) {
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(c->fd);
}

/* Take one step; return 1 when an upgrade has been answered. */
static int step_handshake(struct connection *c, uint32_t events) {
    static const uint8_t normal[2] = {1000 >> 8, 1000 & 255}, mask[4] = {9, 8, 7, 6};
    if (!c->is_upgraded && events & EPOLLOUT) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) fail("connect: %s", strerror(error));
        if (transmit(c, upgrade, upgrade_length) != (ssize_t)upgrade_length) fail("short send");
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        return 0;
    }
    ssize_t got = receive(c, c->head + c->head_length, HEAD_LIMIT - 1 - c->head_length);
    if (got < 0) {
        if (!c->is_upgraded) fail("a connection was closed in its handshake");
        end_handshake(c);
        begin_handshake(c);
        return 0;
    }
    c->head_length += (size_t)got;
    c->head[c->head_length] = 0;
    if (c->is_upgraded || !strstr(c->head, "\r\n\r\n")) return 0;
    check_upgrade(c->head);
    c->is_upgraded = 1;
    uint8_t close_frame[8];
    size_t size = put_masked(close_frame, 0x88, normal, 2, mask);
    if (transmit(c, close_frame, size) != (ssize_t)size) fail("short send");
    return 1;
}

static void run_handshakes(void) {
    struct connection *all = allocate((size_t)options.connections, sizeof *all);
    uint64_t start = now() + (uint64_t)(options.warm_up * (double)NS), time = 0, upgrades = 0;
    struct usage before = usage();
    uint64_t end = start + (uint64_t)(options.seconds * (double)NS);
    int is_counting = 0;
    for (int i = 0; i < options.connections; i++) {
        all[i].head = allocate(HEAD_LIMIT, 1);
        begin_handshake(&all[i]);
    }
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, STALL_MS);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) fail("no handshake within %d s", STALL_MS / 1000);
        time = now();
        if (!is_counting && time >= start) {
            is_counting = 1;
            start = time;
            before = usage();
        }
        if (time >= end) break;
        for (int i = 0; i < ready; i++) {
            int upgraded = step_handshake(events[i].data.ptr, events[i].events);
            if (is_counting) upgrades += (uint64_t)upgraded;
        }
    }
    if (!upgrades) fail("no handshake while it counted");
    report_rate(upgrades, time - start, before, 0);
}

/* Idle connections */

static void run_idle(void) {
    struct connection *all = allocate((size_t)options.connections, sizeof *all);
    for (int i = 0; i < options.connections; i++) {
        all[i].sent_at = allocate((size_t)options.depth, sizeof(uint64_t));
        open_connection(&all[i]);
    }
    struct epoll_event input = {.events = EPOLLIN | EPOLLHUP, .data.ptr = NULL}, events[EVENTS];
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input)) fail("stdin: %s", strerror(errno));
    puts("ready");
    fflush(stdout);
    int missing = 0;
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, missing ? STALL_MS : -1);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) fail("%d replies have not come", missing);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                if (read(STDIN_FILENO, buffer, sizeof buffer) <= 0) return;
                for (int k = 0; k < options.connections; k++) {
                    all[k].owed++;
                    missing++;
                    flush_messages(&all[k]);
                }
                continue;
            }
            int complete = read_replies(c);
            if (c->owed || c->unsent_length) flush_messages(c);
            missing -= complete;
            if (complete && !missing) {
                puts("called");
                fflush(stdout);
            }
        }
    }
}

static int parse_mode(const char *name) {
    static const char *const names[] = {"calls", "echo", "handshakes", "idle"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(name, names[i])) return i;
    fail("unknown mode %s", name);
    return -1;
}

int main(int argc, char **argv) {
    const char *message_file = NULL, *expected_file = NULL;
    int option;
    while ((option = getopt(argc, argv, "c:d:s:w:m:e:p:ftb")) != -1) {
        switch (option) {
        case 'c': options.connections = atoi(optarg); break;
        case 'd': options.depth = atoi(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 'm': message_file = optarg; break;
        case 'e': expected_file = optarg; break;
        case 'p': options.path = optarg; break;
        case 'f': options.fixed_mask = 1; break;
        case 't': options.tls = 1; break;
        case 'b': options.polls = 1; break;
        default: return 2;
        }
    }
    if (argc - optind != 2) fail("usage: load [options] MODE PORT (see the head of load.c)");
    options.mode = (enum mode)parse_mode(argv[optind]);
    options.port = atoi(argv[optind + 1]);
    if (options.connections < 1 || options.depth < 1) fail("-c and -d are at least 1");
    epoll = epoll_create1(0);
    make_upgrade();
    if (options.tls) {
#ifdef WITH_TLS
        tls_context = SSL_CTX_new(TLS_client_method());
        /* A short write keeps its place in `frames`, but not its length. */
        SSL_CTX_set_mode(tls_context,
                         SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#else
        fail("built without TLS");
#endif
    }
    if (options.mode == HANDSHAKES) {
        if (options.tls) fail("handshakes are measured without TLS");
        run_handshakes();
        return 0;
    }
    size_t length;
    if (!message_file) fail("-m is missing");
    uint8_t *message = read_file(message_file, &length);
    make_frames(message, length);
    if (options.mode != ECHO) {
        if (!expected_file) fail("-e is missing");
        message = read_file(expected_file, &length);
    }
    expect_reply(message, length);
    if (options.mode == IDLE)
        run_idle();
    else
        run_calls();
    return 0;
}
