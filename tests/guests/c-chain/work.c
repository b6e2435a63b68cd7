// Pure computation, to see what being able to suspend costs code that does not wait: each program takes n, the amount of work, and
// returns a checksum that depends on nothing else. The guests of the other languages have the same ones.

#include "work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A reproducible sequence (xorshift, 32 bits).
static uint32_t following(uint32_t x) {
  x ^= x << 13;
  x ^= x >> 17;
  return x ^ x << 5;
}

static uint32_t fold(uint32_t sum, uint32_t value) { return (sum ^ value) * 0x01000193u; }

// --- the n-th Fibonacci number by plain recursion: nothing but calls

static __attribute__((noinline)) uint32_t fib(uint32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

// --- sorts n numbers with the library's sort and a comparator

static int compare(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  if (a % 1000 != b % 1000) return a % 1000 < b % 1000 ? -1 : 1;
  return a < b ? 1 : a > b ? -1 : 0;
}

static uint32_t sort(uint32_t n) {
  uint32_t *numbers = malloc(n * sizeof *numbers), x = 42, sum = 0;
  for (uint32_t i = 0; i < n; i++) numbers[i] = x = following(x);
  qsort(numbers, n, sizeof *numbers, compare);
  for (uint32_t i = 0; i < n; i++) sum = fold(sum, numbers[i]);
  free(numbers);
  return sum;
}

// --- writes and reads n orders as JSON

struct value {
  char *key, *text;
  double number;
  struct value *first, *next;
};

enum { LONGEST_TEXT = 32 };

static char *read_text(const char **at) {
  const char *from = ++*at;
  char *text = malloc(LONGEST_TEXT), *to = text;
  for (; *from != '"'; from++) {
    if (*from == '\\') from++;
    *to++ = *from;
  }
  *to = 0;
  *at = from + 1;
  return text;
}

// What is read was written here, so it is well-formed and without blanks.
static struct value *read_value(const char **at) {
  struct value *value = calloc(1, sizeof *value);
  char opening = **at;
  if (opening == '"') {
    value->text = read_text(at);
  } else if (opening == 'n') {
    *at += strlen("null");
  } else if (opening == '{' || opening == '[') {
    struct value **last = &value->first;
    do {
      char *key = NULL;
      ++*at;
      if (opening == '{') {
        key = read_text(at);
        ++*at;
      }
      *last = read_value(at);
      (*last)->key = key;
      last = &(*last)->next;
    } while (**at == ',');
    ++*at;
  } else {
    value->number = strtod(*at, (char **)at);
  }
  return value;
}

static const struct value *member(const struct value *value, const char *key) {
  for (value = value->first; value && strcmp(value->key, key); value = value->next) {}
  return value;
}

static void forget(struct value *value) {
  while (value) {
    struct value *next = value->next;
    forget(value->first);
    free(value->key);
    free(value->text);
    free(value);
    value = next;
  }
}

static void write_order(char *text, uint32_t number) {
  text += sprintf(text, "{\"id\":%u,\"customer\":\"customer %u\",\"lines\":[", number, number % 1000);
  for (uint32_t at = 0; at <= number % 8; at++) {
    double price = (number >> (at + 3) & 0xffff) / 100.0;
    text += sprintf(text, "%s{\"sku\":\"SKU-%05u\",\"price\":%.2f,\"count\":%u}", at ? "," : "", (number >> at) % 100000, price, at + 1);
  }
  sprintf(text, "],\"note\":%s}", number % 3 ? "null" : "\"leave it \\\"at the door\\\"\"");
}

static uint32_t json(uint32_t n) {
  char text[1024];
  uint32_t x = 7, sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    x = following(x);
    write_order(text, x);
    const char *at = text;
    struct value *order = read_value(&at);
    double total = 0;
    for (const struct value *line = member(order, "lines")->first; line; line = line->next) {
      total += member(line, "price")->number * member(line, "count")->number;
    }
    const char *note = member(order, "note")->text;
    sum = fold(sum, (uint32_t)(total * 100 + 0.5) + (uint32_t)member(order, "id")->number + (note ? strlen(note) : 0));
    forget(order);
  }
  return sum;
}

// --- digests n KiB: one long loop over integers

static uint32_t turn(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void digest_block(uint32_t state[8], const uint32_t k[64], const uint8_t *block) {
  uint32_t w[64], v[8];
  for (int t = 0; t < 16; t++) w[t] = (uint32_t)block[4 * t] << 24 | block[4 * t + 1] << 16 | block[4 * t + 2] << 8 | block[4 * t + 3];
  for (int t = 16; t < 64; t++) {
    uint32_t small0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ w[t - 15] >> 3;
    uint32_t small1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ w[t - 2] >> 10;
    w[t] = w[t - 16] + small0 + w[t - 7] + small1;
  }
  memcpy(v, state, sizeof v);
  for (int t = 0; t < 64; t++) {
    uint32_t big1 = turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25), choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
    uint32_t first = v[7] + big1 + choice + k[t] + w[t];
    uint32_t big0 = turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22), majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
    memmove(v + 1, v, 7 * sizeof *v);
    v[4] += first;
    v[0] = first + big0 + majority;
  }
  for (int i = 0; i < 8; i++) state[i] += v[i];
}

// The first 32 bits of the fraction of a root.
static uint32_t fraction(double root) { return (uint32_t)((root - floor(root)) * 4294967296.0); }

static uint32_t sha256(uint32_t n) {
  uint32_t k[64], state[8], found = 0, x = 3, sum = 0;
  for (uint32_t number = 2; found < 64; number++) {
    uint32_t divisor = 2;
    while (number % divisor) divisor++;
    if (divisor < number) continue;
    if (found < 8) state[found] = fraction(sqrt(number));
    k[found++] = fraction(cbrt(number));
  }
  uint8_t block[1024];
  for (int i = 0; i < 1024; i++) block[i] = x = following(x);
  for (uint32_t i = 0; i < 16 * n; i++) digest_block(state, k, block + i % 16 * 64);
  for (int i = 0; i < 8; i++) sum = fold(sum, state[i]);
  return sum;
}

// --- builds and drops n trees of 2,047 nodes: nothing but the allocator

struct tree {
  struct tree *left, *right;
};

static struct tree *plant(int depth) {
  struct tree *tree = calloc(1, sizeof *tree);
  if (depth > 0) {
    tree->left = plant(depth - 1);
    tree->right = plant(depth - 1);
  }
  return tree;
}

static uint32_t fell(struct tree *tree) {
  uint32_t nodes = tree->left ? 1 + fell(tree->left) + fell(tree->right) : 1;
  free(tree);
  return nodes;
}

static uint32_t trees(uint32_t n) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum = fold(sum, fell(plant(10)));
  return sum;
}

bool work(const char *name, size_t length, uint32_t n, uint64_t *checksum) {
  static const struct {
    const char *name;
    uint32_t (*run)(uint32_t);
  } programs[] = {{"fib", fib}, {"sort", sort}, {"json", json}, {"sha256", sha256}, {"trees", trees}};
  for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
    if (length != strlen(programs[i].name) || memcmp(name, programs[i].name, length)) continue;
    *checksum = programs[i].run(n);
    return true;
  }
  return false;
}
