// What loops over numbers share: vector instructions of the processor at hand, bfloat16, and dropout masks.

#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/util/BFloat16.h>

#if defined(__GNUC__) && !defined(__clang__) && !defined(INTRA_OP_PARALLEL)
#error "at::parallel_for would run on one thread: is -fopenmp missing?"
#endif

#define RECYCLABLE_INLINE __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
template <typename Loop>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512"))) void with_avx512(Loop loop) {
    loop();
}

template <typename Loop> __attribute__((target("avx2,fma"))) void with_avx2(Loop loop) { loop(); }

// Runs `loop`, compiled for what libtorch found the processor to have: a lambda marked RECYCLABLE_INLINE that captures values, for what
// it captured by reference would be read again in each round, and no loop vectorized.
template <typename Loop> void vectorized(Loop loop) {
    static const std::string has = at::get_cpu_capability();
    if (has == "AVX512") return with_avx512(loop);
    if (has == "AVX2") return with_avx2(loop);
    loop();
}
#else
template <typename Loop> void vectorized(Loop loop) { loop(); }
#endif

RECYCLABLE_INLINE inline float wide(float x) { return x; }

RECYCLABLE_INLINE inline float wide(c10::BFloat16 x) {
    uint32_t bits = static_cast<uint32_t>(x.x) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof(result));
    return result;
}

// Rounds to the nearest number of this kind, to the even one of two; c10's own is a branch, which no loop is vectorized around.
template <typename To> RECYCLABLE_INLINE inline To narrow(float x) {
    if constexpr (std::is_same_v<To, float>) {
        return x;
    } else {
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof(bits));
        uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        bool nan = (bits & 0x7fffffff) > 0x7f800000;
        return c10::BFloat16(static_cast<uint16_t>(nan ? 0x7fc0 : rounded), c10::BFloat16::from_bits());
    }
}

// Factors of dropout: 0 with probability threshold / 2^32, else `keep`. A mask is never stored: a pass backward draws the same numbers.
struct Mask {
    static constexpr int64_t LONGEST = 256; // numbers drawn at a time, an even number

    uint64_t seed;
    uint32_t threshold;
    float keep;

    Mask(double probability, int64_t seed)
        : seed(static_cast<uint64_t>(seed)), threshold(static_cast<uint32_t>(probability * 4294967296.0)),
          keep(static_cast<float>(1.0 / (1.0 - probability))) {}

    // The factors of elements `begin` (an even number) and after it, at most LONGEST. Number i of SplitMix64 (Steele, Lea and
    // Flood, "Fast splittable pseudorandom number generators", 2014), which can be asked for out of order, serves two elements.
    RECYCLABLE_INLINE void fill(int64_t begin, int64_t count, float *factors) const {
        uint64_t drawn[LONGEST / 2];
        uint32_t bits[LONGEST];
        for (int64_t i = 0; i < (count + 1) / 2; ++i) {
            uint64_t z = seed + static_cast<uint64_t>(begin / 2 + i + 1) * 0x9e3779b97f4a7c15;
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
            z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
            drawn[i] = z ^ (z >> 31);
        }
        std::memcpy(bits, drawn, (count + 1) / 2 * sizeof(uint64_t));
        for (int64_t i = 0; i < count; ++i) factors[i] = bits[i] < threshold ? 0.0f : keep;
    }
};
