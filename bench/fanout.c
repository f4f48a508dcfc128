/* The subscribers of a fan-out: one thread, epoll, as many connections as asked for.
 *
 *   cc -O2 -o fanout fanout.c
 *
 *   fanout PORT -c connections -s seconds -b subscribe file -m publish file -e expected file
 *               [-w warm-up seconds] [-p process id]...
 *
 * Each connection sends the text of the first file, which is answered. Then one more connection
 * sends that of the second, again and again: the server sends one message to each subscriber, and
 * answers with the text of the third. The next one leaves when all of that has come.
 *
 * Of one publish every subscriber must get one unfragmented text frame with the same bytes, other
 * than those of the publish before; anything else ends the run with status 1 and a line on standard
 * error. Pings are answered. The result is one JSON object on standard output: `rate` is frames per
 * second, `per_core` frames per second that the processes named by -p have used, `p50`, `p99` and
 * `max` are of one publish to all, in microseconds.
 */
#include "load.h"

static uint8_t *asked, *answer;
static size_t asked_length, answer_length;

/* What the first subscriber got of this publish, and what all got of the one before. */
static uint8_t pushed[HEAD_LIMIT], pushed_before[HEAD_LIMIT];
static size_t pushed_length, pushed_before_length;

#define SERVERS 16
static int servers[SERVERS], server_count;

/* The processor time that the servers have used, in seconds; proc_pid_stat(5). */
static double servers_used(void) {
    double used = 0;
    for (int i = 0; i < server_count; i++) {
        char name[64], text[1024] = "";
        snprintf(name, sizeof name, "/proc/%d/stat", servers[i]);
        FILE *file = fopen(name, "r");
        if (!file || !fgets(text, sizeof text, file)) fail("%s cannot be read", name);
        fclose(file);
        unsigned long user, system;
        /* The name of the program, in parentheses, may hold anything. */
        char *end = strrchr(text, ')');
        if (!end || sscanf(end + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                           &system) != 2)
            fail("%s is not understood", name);
        used += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    }
    return used;
}

enum stage { ASKING, PUSHING };
static enum stage stage;

static void send_text(struct connection *c, uint8_t first, const uint8_t *text, size_t length) {
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t frame[HEAD_LIMIT];
    if (length > HEAD_LIMIT - 14) fail("the text is too long");
    size_t size = put_masked(frame, first, text, length, mask);
    if (transmit(c, frame, size) != (ssize_t)size) fail("short send");
}

static void take_text(struct connection *c, const uint8_t *text, size_t length) {
    if (!c->outstanding) fail("a message that nobody waits for: %.*s", (int)length, text);
    c->outstanding = 0;
    if (stage == ASKING) {
        if (length < 8 || memcmp(text, "{\"data\":", 8)) fail("refused: %.*s", (int)length, text);
        return;
    }
    if (c->is_upgraded) { /* the one that publishes; the first answer tells of nothing before */
        if (pushed_before_length && (length != answer_length || memcmp(text, answer, length)))
            fail("a wrong answer: %.*s", (int)length, text);
        return;
    }
    if (!pushed_length) {
        memcpy(pushed, text, length);
        pushed_length = length;
        if (length == pushed_before_length && !memcmp(text, pushed_before, length))
            fail("the same message again: %.*s", (int)length, text);
    } else if (length != pushed_length || memcmp(text, pushed, length)) {
        fail("not what others got: %.*s", (int)length, text);
    }
}

/* Read what has come; return how many of the awaited messages were in it. */
static int read_frames(struct connection *c) {
    ssize_t got = receive(c, c->head + c->head_length, HEAD_LIMIT - c->head_length);
    if (got < 0) fail("the server has closed a connection");
    c->head_length += (size_t)got;
    int found = 0;
    size_t at = 0;
    while (c->head_length - at >= 2) {
        const uint8_t *frame = (const uint8_t *)c->head + at;
        size_t header = frame[1] == 126 ? 4 : 2;
        if (frame[1] > 126) fail("a frame is too long");
        if (c->head_length - at < header) break;
        size_t length = header == 2 ? frame[1] : (size_t)frame[2] << 8 | frame[3];
        if (header + length > HEAD_LIMIT) fail("a frame is too long");
        if (c->head_length - at < header + length) break;
        if (frame[0] == 0x89) {
            send_text(c, 0x8a, frame + header, length);
        } else if (frame[0] != 0x81) {
            fail("a frame that begins with %02x", frame[0]);
        } else {
            take_text(c, frame + header, length);
            found++;
        }
        at += header + length;
    }
    if (at) {
        memmove(c->head, c->head + at, c->head_length - at);
        c->head_length -= at;
    }
    return found;
}

static void await_all(int missing) {
    struct epoll_event events[EVENTS];
    while (missing) {
        int ready = epoll_wait(epoll, events, EVENTS, STALL_MS);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) fail("%d messages have not come", missing);
        for (int i = 0; i < ready; i++) missing -= read_frames(events[i].data.ptr);
    }
}

static void publish(struct connection *all, int subscribers) {
    memcpy(pushed_before, pushed, pushed_length);
    pushed_before_length = pushed_length;
    pushed_length = 0;
    for (int i = 0; i <= subscribers; i++) all[i].outstanding = 1;
    send_text(&all[subscribers], 0x81, asked, asked_length);
    await_all(subscribers + 1);
}

int main(int argc, char **argv) {
    const char *subscribe_file = NULL, *publish_file = NULL, *expected_file = NULL;
    int option;
    while ((option = getopt(argc, argv, "c:s:w:b:m:e:p:")) != -1) {
        switch (option) {
        case 'c': options.connections = atoi(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 'b': subscribe_file = optarg; break;
        case 'm': publish_file = optarg; break;
        case 'e': expected_file = optarg; break;
        case 'p':
            if (server_count == SERVERS) fail("too many -p");
            servers[server_count++] = atoi(optarg);
            break;
        default: return 2;
        }
    }
    if (argc - optind != 1 || !subscribe_file || !publish_file || !expected_file)
        fail("usage: see the head of fanout.c");
    options.port = atoi(argv[optind]);
    if (options.connections < 1) fail("-c is at least 1");
    epoll = epoll_create1(0);
    make_upgrade();
    size_t subscribe_length;
    uint8_t *subscribe = read_file(subscribe_file, &subscribe_length);
    asked = read_file(publish_file, &asked_length);
    answer = read_file(expected_file, &answer_length);

    int subscribers = options.connections;
    struct connection *all = allocate((size_t)subscribers + 1, sizeof *all);
    for (int i = 0; i <= subscribers; i++) {
        all[i].head = allocate(HEAD_LIMIT, 1);
        open_connection(&all[i]);
    }
    stage = ASKING;
    for (int i = 0; i < subscribers; i++) {
        all[i].outstanding = 1;
        send_text(&all[i], 0x81, subscribe, subscribe_length);
    }
    await_all(subscribers);
    stage = PUSHING;
    all[subscribers].is_upgraded = 1;

    uint64_t warm = now() + (uint64_t)(options.warm_up * (double)NS);
    do publish(all, subscribers);
    while (now() < warm);
    struct usage before = usage();
    double used = servers_used();
    uint64_t start = now(), time = start, publishes = 0;
    uint64_t end = start + (uint64_t)(options.seconds * (double)NS);
    while (time < end) {
        uint64_t begun = time;
        publish(all, subscribers);
        time = now();
        record(time - begun);
        publishes++;
    }
    struct usage after = usage();
    used = servers_used() - used;
    double elapsed = (double)(time - start);
    printf("{\"rate\": %.1f, \"per_core\": %.1f, \"count\": %llu, \"seconds\": %.4f, \"busy\": %.3f, "
           "\"load_waited\": %.3f, \"bytes\": %zu, \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}\n",
           (double)publishes * subscribers * NS / elapsed,
           used > 0 ? (double)publishes * subscribers / used : 0.0, (unsigned long long)publishes,
           elapsed / NS, (double)(after.worked - before.worked) / elapsed,
           (double)(after.waited - before.waited) / elapsed, pushed_length, quantile_us(0.5),
           quantile_us(0.99), (double)histogram.largest / 1e3);
    return 0;
}
