// torch's fused AdamW, which tch does not bind.

#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adamw.h>

#include "shim.h"

// One update of `count` tensors. `grad_scale` may be null.
extern "C" int recyclable_fused_adamw(
    const at::Tensor *const *parameters, const at::Tensor *const *gradients, const at::Tensor *const *means,
    const at::Tensor *const *squares, size_t count, const at::Tensor *step, double learning_rate, double beta1,
    double beta2, double weight_decay, double epsilon, const at::Tensor *grad_scale, const at::Tensor *found_inf,
    char *error, size_t error_size) {
    return reporting(error, error_size, [&] {
        auto scale = grad_scale ? std::optional<at::Tensor>(*grad_scale) : std::nullopt;
        at::_fused_adamw_(
            list(parameters, count), list(gradients, count), list(means, count), list(squares, count), {},
            std::vector<at::Tensor>(count, *step), learning_rate, beta1, beta2, weight_decay, epsilon,
            /*amsgrad=*/false, /*maximize=*/false, scale, std::optional<at::Tensor>(*found_inf));
        // libtorch does not: who keeps something that depends on the parameters has to see that they were written to.
        for (size_t at = 0; at < count; ++at) parameters[at]->unsafeGetTensorImpl()->bump_version();
    });
}
