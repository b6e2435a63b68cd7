#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Runs the program of that name, which takes the amount of work; false if there is none.
bool work(const char *name, size_t length, uint32_t n, uint64_t *checksum);
