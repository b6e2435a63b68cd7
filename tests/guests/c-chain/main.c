// The C guest that the tests suspend and restore at every wait: the same idea as rust-chain, in the language without a
// runtime. Its task `chain` takes {"n":…,"mode":"wait"|"sleep"|"mixed","ms":…}, where ms is how long each wait takes (1), and
// returns a digest over all that it saw, which depends on n alone. The programs of work.c are tasks too.

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bindings/c_chain.h"
#include "work.h"

enum mode { WAIT, SLEEP, MIXED };

static struct {
  uint32_t left;
  uint32_t done;
  uint32_t ms;
  enum mode mode;
  uint64_t digest;
} run;

static void see_bytes(const void *bytes, size_t length) {
  const unsigned char *byte = bytes;
  for (size_t i = 0; i < length; i++) run.digest = (run.digest ^ byte[i]) * 0x100000001b3u;
}

static void see(uint64_t number) { see_bytes(&number, sizeof number); }

static void see_text(const char *text) { see_bytes(text, strlen(text)); }

static void record(const char *message, const char *attributes) {
  c_chain_string_t m, a;
  c_chain_string_set(&m, message);
  c_chain_string_set(&a, attributes);
  dormouse_task_telemetry_log(DORMOUSE_TASK_TELEMETRY_LEVEL_INFO, &m, &a, NULL);
}

static void wait_on_the_host(uint32_t number) {
  dormouse_task_wait_host_error_t error;
  bool is_done;
  if (number % 4 == 0) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    is_done = dormouse_task_wait_until(now.tv_sec * 1000ull + now.tv_nsec / 1000000 + run.ms, NULL, &error);
  } else {
    is_done = dormouse_task_wait_for_duration(run.ms, NULL, &error);
  }
  if (!is_done) {
    fprintf(stderr, "wait %u: %.*s\n", number, (int)error.message.len, error.message.ptr);
    abort();
  }
}

static void sleep_in_libc(uint32_t number) {
  if (number % 2) {
    struct timespec left = {run.ms / 1000, run.ms % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR) {}
  } else {
    usleep(run.ms * 1000);
  }
}

// Waits if a wait is left, and notes what was seen before and after it.
static void pause_here(uint64_t seen) {
  if (run.left == 0) return;
  run.left--;
  uint32_t number = ++run.done;
  see(seen);
  printf("pause %u: %016llx\n", number, (unsigned long long)seen);
  if (run.mode == SLEEP || (run.mode == MIXED && number % 2)) sleep_in_libc(number);
  else wait_on_the_host(number);
  see(seen ^ number);
  if (number % 7 == 0) {
    char attributes[64];
    snprintf(attributes, sizeof attributes, "{\"number\":%u,\"digest\":\"%016llx\"}", number, (unsigned long long)run.digest);
    record("woken", attributes);
  }
}

// --- one function for each kind of stack and state

static uint64_t recursion(int depth, uint64_t seed) {
  char name[24];
  snprintf(name, sizeof name, "level %d", depth);
  double ratio = (double)seed / (depth + 1);
  uint64_t below;
  if (depth == 0) {
    pause_here(seed);
    below = seed;
  } else {
    below = recursion(depth - 1, seed * 31 + depth);
  }
  if (depth % 8 == 0) pause_here(below);
  see_text(name);
  uint64_t bits;
  memcpy(&bits, &ratio, sizeof bits);
  return (below << 1 | below >> 63) ^ bits;
}

static int compare(const void *left, const void *right) {
  static unsigned comparisons;
  int a = *(const int *)left, b = *(const int *)right;
  if (++comparisons % 40 == 0) pause_here((uint64_t)a << 32 | (uint32_t)b);
  return (a > b) - (a < b);
}

// Waits inside a comparator that libc's sort calls.
static uint64_t sorting(int round) {
  int values[40];
  for (int i = 0; i < 40; i++) values[i] = (i * 7919 + round * 104729) % 1009;
  qsort(values, 40, sizeof *values, compare);
  uint64_t sum = 0;
  for (int i = 0; i < 40; i++) sum = sum * 31 + values[i];
  return sum;
}

struct node {
  struct node *next;
  int64_t value;
  char *text;
};

// A list on the heap, built and freed across waits.
static uint64_t heap(int round) {
  struct node *head = NULL;
  for (int i = 0; i < 6; i++) {
    struct node *node = malloc(sizeof *node);
    *node = (struct node){head, (int64_t)i * round - 7, malloc(16)};
    snprintf(node->text, 16, "node %d", i);
    head = node;
    if (i % 3 == 2) pause_here(node->value);
  }
  uint64_t sum = 0;
  while (head) {
    struct node *next = head->next;
    sum = sum * 33 ^ (uint64_t)head->value ^ strlen(head->text);
    see_text(head->text);
    pause_here(sum);
    free(head->text);
    free(head);
    head = next;
  }
  return sum;
}

// Arguments that lie in memory, and a float, a double and a long double in one call.
static double variadic(int count, ...) {
  va_list list;
  va_start(list, count);
  double sum = 0;
  for (int i = 0; i < count; i++) {
    double value = va_arg(list, double);
    pause_here((uint64_t)(value * 1000));
    sum = sum * 1.25 + value;
  }
  va_end(list);
  return sum;
}

static uint64_t floats(int round) {
  float narrow = round * 0.1f;
  double wide = round / 3.0;
  long double widest = 1.0L / (round + 1);
  double sum = variadic(3, wide, (double)narrow, (double)widest) + variadic(1, -wide);
  char text[64];
  snprintf(text, sizeof text, "%.6f %.3Lf %g", sum, widest * 2, (double)narrow);
  see_text(text);
  return (uint64_t)(sum * 1e6);
}

typedef uint64_t (*step)(uint64_t);

static uint64_t step_add(uint64_t x) { pause_here(x); return x + 17; }
static uint64_t step_multiply(uint64_t x) { pause_here(x); return x * 3; }
static uint64_t step_deep(uint64_t x) { return x ^ recursion((int)(x % 4), x); }

// Calls through a table, and a switch between waits.
static uint64_t table(int round) {
  static const step steps[] = {step_add, step_multiply, step_deep};
  uint64_t x = round;
  for (int i = 0; i < 5; i++) {
    x = steps[(i + round) % 3](x);
    switch (x % 3) {
      case 0: x += 1; // and on
      case 1: x ^= 0xff; break;
      default: pause_here(x);
    }
  }
  return x;
}

// A large array on the stack, some of it read only after the wait.
static uint64_t large_frame(int round) {
  volatile uint32_t cells[3000];
  for (int i = 0; i < 3000; i++) cells[i] = i * 2654435761u + round;
  pause_here(cells[round % 3000]);
  uint64_t sum = 0;
  for (int i = 0; i < 3000; i++) sum = sum * 5 ^ cells[i];
  return sum;
}

// Stdio buffers that are half full during a wait.
static uint64_t stdio(int round) {
  printf("round %d: ", round);
  pause_here(round);
  printf("still the same line, ");
  fprintf(stderr, "round %d on stderr\n", round);
  pause_here(round + 1);
  printf("done\n");
  return ferror(stdout);
}

static uint32_t play(uint32_t n, enum mode mode, uint32_t ms) {
  memset(&run, 0, sizeof run);
  run.left = n;
  run.mode = mode;
  run.ms = ms;
  run.digest = 0xcbf29ce484222325u;
  uint32_t rounds = 0;
  while (run.left > 0) {
    int round = ++rounds;
    see(recursion(1 + round % 40, round));
    see(sorting(round));
    see(heap(round));
    see(floats(round));
    see(table(round));
    see(large_frame(round));
    see(stdio(round));
  }
  fflush(stdout);
  return rounds;
}

// --- the two exports

static bool is_text(const c_chain_string_t *text, const char *expected) {
  return text->len == strlen(expected) && memcmp(text->ptr, expected, text->len) == 0;
}

void exports_dormouse_task_tasks_describe(exports_dormouse_task_tasks_bundle_definition_t *bundle) {
  memset(bundle, 0, sizeof *bundle);
  c_chain_string_dup(&bundle->sdk, "c/0.1.0");
  exports_dormouse_task_tasks_task_definition_t *task = calloc(1, sizeof *task);
  c_chain_string_dup(&task->id, "chain");
  task->description.is_some = true;
  c_chain_string_dup(&task->description.val, "Waits n times from every kind of stack");
  task->retry.is_some = true;
  task->retry.val.max_attempts = 1;
  task->retry.val.factor = 2;
  task->retry.val.min_timeout_ms = 1000;
  task->retry.val.max_timeout_ms = 60000;
  bundle->tasks.ptr = task;
  bundle->tasks.len = 1;
}

static bool refuse(exports_dormouse_task_tasks_task_error_t *error, int reason, const char *message) {
  memset(error, 0, sizeof *error);
  error->reason = reason;
  error->error.tag = DORMOUSE_TASK_TYPES_RUN_ERROR_TEXT;
  c_chain_string_dup(&error->error.val.text, message);
  error->retry.tag = EXPORTS_DORMOUSE_TASK_TASKS_RETRY_DECISION_ABORT;
  return false;
}

// The payload is written by the tests: enough of JSON to find a number and a word in it.
static const char *value_of(const char *json, const char *key) {
  const char *at = strstr(json, key);
  return at ? at + strlen(key) + strspn(at + strlen(key), "\": ") : NULL;
}

static void answer(exports_dormouse_task_tasks_packet_t *output, const char *text) {
  c_chain_string_dup(&output->content_type, "application/json");
  output->data.len = strlen(text);
  output->data.ptr = (uint8_t *)strdup(text);
}

bool exports_dormouse_task_tasks_run(c_chain_string_t *task, exports_dormouse_task_tasks_packet_t *payload,
                                     exports_dormouse_task_tasks_packet_t *output, exports_dormouse_task_tasks_task_error_t *error) {
  char *json = strndup((const char *)payload->data.ptr, payload->data.len), text[96];
  const char *n = value_of(json, "\"n\""), *word = value_of(json, "\"mode\""), *ms = value_of(json, "\"ms\"");
  if (!n) return refuse(error, EXPORTS_DORMOUSE_TASK_TASKS_FAILURE_REASON_INPUT, "the payload has no n");
  uint32_t amount = strtoul(n, NULL, 10);
  uint64_t checksum;
  if (is_text(task, "chain")) {
    enum mode mode = word && *word == 's' ? SLEEP : word && *word == 'm' ? MIXED : WAIT;
    uint32_t rounds = play(amount, mode, ms ? strtoul(ms, NULL, 10) : 1);
    snprintf(text, sizeof text, "{\"digest\":\"%016llx\",\"waits\":%u,\"rounds\":%u}", (unsigned long long)run.digest, run.done, rounds);
  } else if (work((const char *)task->ptr, task->len, amount, &checksum)) {
    snprintf(text, sizeof text, "%llu", (unsigned long long)checksum);
  } else {
    return refuse(error, EXPORTS_DORMOUSE_TASK_TASKS_FAILURE_REASON_UNKNOWN_TASK, "there is no such task");
  }
  free(json);
  answer(output, text);
  return true;
}
