// What the functions behind `native` share. Errors go back as text in the caller's buffer; no exception crosses into Rust.

#pragma once

#include <cstdio>
#include <exception>
#include <vector>

#include <ATen/core/Tensor.h>

// Returns 0, or 1 with a message in `error`.
template <typename Work> int reporting(char *error, size_t error_size, Work work) {
    try {
        work();
        return 0;
    } catch (const std::exception &exception) {
        std::snprintf(error, error_size, "%s", exception.what());
    } catch (...) {
        std::snprintf(error, error_size, "an exception that is no std::exception");
    }
    return 1;
}

inline std::vector<at::Tensor> list(const at::Tensor *const *tensors, size_t count) {
    std::vector<at::Tensor> result;
    result.reserve(count);
    for (size_t at = 0; at < count; ++at) result.push_back(*tensors[at]);
    return result;
}
