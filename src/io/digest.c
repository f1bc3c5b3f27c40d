/* SPDX-License-Identifier: Apache-2.0 */
#include "vertebra/digest.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turn(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void add_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++, block += 4) {
        w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 |
               block[3];
    }
    for (int i = 16; i < 64; i++) {
        const uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7] +
               (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        const uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
        const uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        const uint32_t t1 = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + choice +
                            round_constants[i] + w[i];
        const uint32_t t2 = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + majority;
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) {
        state[i] += s[i];
    }
}

void vt_sha256_init(vt_sha256 *digest)
{
    *digest = (vt_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                    0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void vt_sha256_add(vt_sha256 *digest, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    while (size > 0) {
        size_t at = digest->size % 64, part = size < 64 - at ? size : 64 - at;
        if (part == 64) {
            add_block(digest->state, p);
        } else {
            memcpy(digest->block + at, p, part);
            if (at + part == 64) {
                add_block(digest->state, digest->block);
            }
        }
        digest->size += part;
        p += part;
        size -= part;
    }
}

void vt_sha256_hex(const vt_sha256 *digest, char hex[VT_SHA256_HEX])
{
    uint32_t state[8];
    uint8_t tail[128] = {0};
    const size_t left = digest->size % 64, tail_size = left < 56 ? 64 : 128;
    memcpy(state, digest->state, sizeof state);
    memcpy(tail, digest->block, left);
    tail[left] = 0x80;
    for (int i = 0; i < 8; i++) {
        tail[tail_size - 1 - (size_t)i] = (uint8_t)(digest->size * 8 >> (8 * i));
    }
    for (size_t at = 0; at < tail_size; at += 64) {
        add_block(state, tail + at);
    }
    for (int i = 0; i < 8; i++) {
        snprintf(hex + 8 * i, 9, "%08x", (unsigned)state[i]);
    }
}

vt_status vt_sha256_file(const char *path, char hex[VT_SHA256_HEX], vt_error *error)
{
    uint8_t part[16384];
    vt_sha256 digest;
    vt_file file;
    vt_sha256_init(&digest);
    vt_status status = vt_file_open(&file, path, error);
    for (uint64_t at = 0; status == VT_OK && at < file.size;) {
        size_t size = file.size - at < sizeof part ? (size_t)(file.size - at) : sizeof part;
        status = vt_file_read(&file, at, part, size, error);
        vt_sha256_add(&digest, part, status == VT_OK ? size : 0);
        at += size;
    }
    vt_file_close(&file);
    vt_sha256_hex(&digest, hex);
    return status == VT_OK ? VT_OK : vt_error_wrap(error, status, "%s", path);
}
