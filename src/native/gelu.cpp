// GELU of bfloat16 on the CPU. Both it and its slope need Φ and the exponential: they are formed together, so that the way back is
// one product.

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "shim.h"
#include "vectors.h"

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// e^−u for 0 ≤ u ≤ 87, to 2^−17 of it: 2^−n · e^r with |r| ≤ ln 2 / 2.
RECYCLABLE_INLINE inline float exp_of_minus(float u) {
    auto n = static_cast<int32_t>(u * 1.44269504f + 0.5f);
    float r = static_cast<float>(n) * 0.693147181f - u;
    float p = 1.0f / 120.0f + r * (1.0f / 720.0f);
    p = 1.0f / 24.0f + r * p;
    p = 1.0f / 6.0f + r * p;
    p = 0.5f + r * p;
    p = 1.0f + r * p;
    p = 1.0f + r * p;
    int32_t bits = (127 - n) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof(scale));
    return p * scale;
}

// x·Φ(x) = max(x, 0) − |x|·Φ(−|x|), and its slope Φ(x) + x·φ(x). Φ(−|x|) = ½·(a₁t + … + a₅t⁵)·e^(−x²/2), t = 1 / (1 + 0.3275911·|x|/√2),
// to 7.5·10⁻⁸: Abramowitz and Stegun, "Handbook of mathematical functions" (1964), 7.1.26. Beyond ±13, e^(−x²/2) is nothing.
RECYCLABLE_INLINE inline void gelu(float x, float &y, float &slope) {
    float magnitude = x < 0 ? -x : x;
    magnitude = magnitude < 13.0f ? magnitude : 13.0f; // of NaN as well, which is passed on by x itself
    float bell = exp_of_minus(0.5f * magnitude * magnitude);
    float t = 1.0f / (1.0f + 0.231641888f * magnitude);
    float tail = 1.061405429f * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = (tail * t + 0.254829592f) * t * 0.5f * bell;
    y = (x < 0 ? 0.0f : x) - magnitude * tail;
    float rise = tail - magnitude * 0.398942280f * bell; // at −|x|
    slope = x < 0 ? rise : x >= 0 ? 1.0f - rise : x;
}

struct Gelu : torch::autograd::Function<Gelu> {
    static at::Tensor forward(AutogradContext *context, const at::Tensor &x) {
        at::AutoDispatchBelowADInplaceOrView below;
        auto from = x.contiguous();
        auto y = at::empty_like(from), slopes = x.requires_grad() ? at::empty_like(from) : at::Tensor();
        auto *in = from.const_data_ptr<at::BFloat16>();
        auto *out = y.mutable_data_ptr<at::BFloat16>();
        auto *slope = slopes.defined() ? slopes.mutable_data_ptr<at::BFloat16>() : nullptr;
        // Parts begin at multiples of a vector: what is left over at an end may be rounded in another way.
        constexpr int64_t size = 256;
        auto count = x.numel();
        at::parallel_for(0, (count + size - 1) / size, 64, [&](int64_t begin, int64_t end) {
            auto first = begin * size, last = std::min(end * size, count);
            vectorized([=]() RECYCLABLE_INLINE {
                for (int64_t i = first; slope && i < last; ++i) {
                    float value, rise;
                    gelu(wide(in[i]), value, rise);
                    out[i] = narrow<at::BFloat16>(value);
                    slope[i] = narrow<at::BFloat16>(rise);
                }
                for (int64_t i = first; !slope && i < last; ++i) {
                    float value, rise;
                    gelu(wide(in[i]), value, rise);
                    out[i] = narrow<at::BFloat16>(value);
                }
            });
        });
        context->save_for_backward({slopes});
        return y;
    }

    static variable_list backward(AutogradContext *context, const variable_list &gradients) {
        TORCH_CHECK(!at::GradMode::is_enabled(), "GELU of bf16 has no second derivative here");
        at::AutoDispatchBelowADInplaceOrView below;
        return {gradients[0] * context->get_saved_variables()[0]};
    }
};

} // namespace

// The caller owns what `y` is pointed to.
extern "C" int recyclable_gelu(const at::Tensor *x, at::Tensor **y, char *error, size_t error_size) {
    return reporting(error, error_size, [&] {
        auto fits = x->is_cpu() && x->scalar_type() == at::kBFloat16;
        TORCH_CHECK(fits, "only bf16 on the CPU, not ", x->scalar_type(), " on ", x->device());
        *y = new at::Tensor(Gelu::apply(*x));
    });
}
