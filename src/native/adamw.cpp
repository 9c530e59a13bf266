// What libtorch can do and tch does not bind. Errors go back as text in the caller's buffer; no exception crosses into Rust.

#include <cstdio>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>

namespace {

std::vector<at::Tensor> list(const at::Tensor *const *tensors, size_t count) {
    std::vector<at::Tensor> result;
    result.reserve(count);
    for (size_t at = 0; at < count; ++at) result.push_back(*tensors[at]);
    return result;
}

} // namespace

// One update of `count` tensors. Returns 0, or 1 with a message in `error`. `grad_scale` may be null.
extern "C" int recyclable_fused_adamw(
    const at::Tensor *const *parameters, const at::Tensor *const *gradients, const at::Tensor *const *means,
    const at::Tensor *const *squares, size_t count, const at::Tensor *step, double learning_rate, double beta1,
    double beta2, double weight_decay, double epsilon, const at::Tensor *grad_scale, const at::Tensor *found_inf,
    char *error, size_t error_size) {
    try {
        auto scale = grad_scale ? std::optional<at::Tensor>(*grad_scale) : std::nullopt;
        at::_fused_adamw_(
            list(parameters, count), list(gradients, count), list(means, count), list(squares, count), {},
            std::vector<at::Tensor>(count, *step), learning_rate, beta1, beta2, weight_decay, epsilon,
            /*amsgrad=*/false, /*maximize=*/false, scale, std::optional<at::Tensor>(*found_inf));
        return 0;
    } catch (const std::exception &exception) {
        std::snprintf(error, error_size, "%s", exception.what());
    } catch (...) {
        std::snprintf(error, error_size, "an exception that is no std::exception");
    }
    return 1;
}
