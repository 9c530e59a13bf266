// LayerNorm(residual + dropout(branch)) on the CPU, in one pass over memory forward and one backward.

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "shim.h"
#include "vectors.h"

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Draws the factors of a row; rows of odd length leave out a number, so that each begins with a fresh one.
RECYCLABLE_INLINE inline void fill_row(const Mask &mask, int64_t row, int64_t width, float *factors) {
    auto stride = (width + 1) / 2 * 2;
    for (int64_t begin = 0; begin < width; begin += Mask::LONGEST)
        mask.fill(row * stride + begin, std::min(Mask::LONGEST, width - begin), factors + begin);
}

struct Sizes {
    int64_t rows, width;
    bool drops;
};

// (s − mean) / √(variance + ε) of the rows s = residual + mask·branch goes to `unit`, its product with the weight, and the bias, to `y`.
template <typename Branch>
void normalize(
    Sizes sizes, const Branch *branch, const float *residual, const float *weight, const float *bias, float epsilon, Mask mask,
    float *unit, float *scale, float *y) {
    auto width = sizes.width;
    at::parallel_for(0, sizes.rows, std::max<int64_t>(1, 16384 / width), [&](int64_t first, int64_t last) {
        std::vector<float> scratch(width, 1.0f);
        float *factors = scratch.data();
        vectorized([=]() RECYCLABLE_INLINE {
            for (int64_t row = first; row < last; ++row) {
                if (sizes.drops) fill_row(mask, row, width, factors);
                auto *in = branch + row * width;
                auto *beside = residual + row * width;
                float *s = unit + row * width, *out = y + row * width;
                float sum = 0, squares = 0;
                for (int64_t i = 0; i < width; ++i) {
                    s[i] = beside[i] + wide(in[i]) * factors[i];
                    sum += s[i];
                }
                float mean = sum / width;
                for (int64_t i = 0; i < width; ++i) squares += (s[i] - mean) * (s[i] - mean);
                float by = 1.0f / std::sqrt(squares / width + epsilon);
                for (int64_t i = 0; i < width; ++i) {
                    s[i] = (s[i] - mean) * by;
                    out[i] = s[i] * weight[i] + bias[i];
                }
                scale[row] = by;
            }
        });
    });
}

// The way back, with u = unit and g = dy·weight: ds = (g − mean(g) − u·mean(g·u)) / √(variance + ε). Sums over rows are formed in parts,
// whose number depends on sizes and the number of threads alone, so that a computation can be repeated to the bit.
template <typename Branch>
void slope(
    Sizes sizes, const float *dy, const float *unit, const float *scale, const float *weight, Mask mask, float *residual, Branch *branch,
    float *weights, float *biases, int64_t parts) {
    auto width = sizes.width;
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
        std::vector<float> scratch(2 * width, 1.0f);
        float *factors = scratch.data(), *__restrict g = scratch.data() + width;
        vectorized([=]() RECYCLABLE_INLINE {
            for (int64_t part = begin; part < end; ++part) {
                float *__restrict dw = weights + part * width, *__restrict db = biases + part * width;
                for (int64_t i = 0; i < width; ++i) dw[i] = db[i] = 0;
                for (int64_t row = part * sizes.rows / parts; row < (part + 1) * sizes.rows / parts; ++row) {
                    if (sizes.drops) fill_row(mask, row, width, factors);
                    auto *in = dy + row * width, *u = unit + row * width;
                    float sum = 0, product = 0;
                    for (int64_t i = 0; i < width; ++i) {
                        g[i] = in[i] * weight[i];
                        sum += g[i];
                        product += g[i] * u[i];
                        dw[i] += in[i] * u[i];
                        db[i] += in[i];
                    }
                    float mean = sum / width, along = product / width;
                    float *ds = residual + row * width;
                    auto *out = branch + row * width;
                    for (int64_t i = 0; i < width; ++i) {
                        ds[i] = (g[i] - mean - u[i] * along) * scale[row];
                        out[i] = narrow<Branch>(ds[i] * factors[i]);
                    }
                }
            }
        });
    });
}

struct AddNorm : torch::autograd::Function<AddNorm> {
    static at::Tensor forward(
        AutogradContext *context, const at::Tensor &branch, const at::Tensor &residual, const at::Tensor &weight, const at::Tensor &bias,
        double epsilon, double probability, int64_t seed) {
        at::AutoDispatchBelowADInplaceOrView below;
        auto in = branch.contiguous(), beside = residual.contiguous();
        Sizes sizes{residual.numel() / weight.numel(), weight.numel(), probability > 0};
        auto y = at::empty_like(beside), unit = at::empty_like(beside), scale = at::empty({sizes.rows}, beside.options());
        auto run = [&](auto *numbers) {
            normalize(
                sizes, numbers, beside.const_data_ptr<float>(), weight.const_data_ptr<float>(), bias.const_data_ptr<float>(),
                static_cast<float>(epsilon), Mask(probability, seed), unit.mutable_data_ptr<float>(), scale.mutable_data_ptr<float>(),
                y.mutable_data_ptr<float>());
        };
        if (branch.scalar_type() == at::kFloat)
            run(in.const_data_ptr<float>());
        else
            run(in.const_data_ptr<at::BFloat16>());
        context->save_for_backward({unit, scale, weight});
        context->saved_data["kind"] = static_cast<int64_t>(branch.scalar_type());
        context->saved_data["probability"] = probability;
        context->saved_data["seed"] = seed;
        return y;
    }

    static variable_list backward(AutogradContext *context, const variable_list &gradients) {
        TORCH_CHECK(!at::GradMode::is_enabled(), "a sum with its LayerNorm has no second derivative here");
        at::AutoDispatchBelowADInplaceOrView below;
        auto saved = context->get_saved_variables();
        const auto &unit = saved[0], &scale = saved[1], &weight = saved[2];
        auto kind = static_cast<at::ScalarType>(context->saved_data["kind"].toInt());
        auto probability = context->saved_data["probability"].toDouble();
        Mask mask(probability, context->saved_data["seed"].toInt());
        auto dy = gradients[0].contiguous();
        Sizes sizes{scale.numel(), weight.numel(), probability > 0};
        auto parts = std::min<int64_t>(at::get_num_threads(), std::max<int64_t>(1, unit.numel() / 16384));
        auto residual = at::empty_like(unit), branch = at::empty(unit.sizes(), unit.options().dtype(kind));
        auto weights = at::empty({parts, sizes.width}, unit.options()), biases = at::empty_like(weights);
        auto run = [&](auto *numbers) {
            slope(
                sizes, dy.const_data_ptr<float>(), unit.const_data_ptr<float>(), scale.const_data_ptr<float>(),
                weight.const_data_ptr<float>(), mask, residual.mutable_data_ptr<float>(), numbers, weights.mutable_data_ptr<float>(),
                biases.mutable_data_ptr<float>(), parts);
        };
        if (kind == at::kFloat)
            run(branch.mutable_data_ptr<float>());
        else
            run(branch.mutable_data_ptr<at::BFloat16>());
        auto whole = [&](const at::Tensor &sums) { return parts == 1 ? sums.view({sizes.width}) : sums.sum(0); };
        return {branch, residual, whole(weights), whole(biases), at::Tensor(), at::Tensor(), at::Tensor()};
    }
};

} // namespace

// The caller owns what `y` is pointed to.
extern "C" int recyclable_add_norm(
    const at::Tensor *branch, const at::Tensor *residual, const at::Tensor *weight, const at::Tensor *bias, double epsilon,
    double probability, int64_t seed, at::Tensor **y, char *error, size_t error_size) {
    return reporting(error, error_size, [&] {
        auto kind = branch->scalar_type();
        TORCH_CHECK(kind == at::kFloat || kind == at::kBFloat16, "a branch of fp32 or bf16 is needed, not ", kind);
        TORCH_CHECK(branch->sizes() == residual->sizes(), "a branch ", branch->sizes(), " beside a residual ", residual->sizes());
        for (auto *tensor : {residual, weight, bias})
            TORCH_CHECK(tensor->scalar_type() == at::kFloat, "fp32 is needed, not ", tensor->scalar_type());
        for (auto *tensor : {branch, residual, weight, bias})
            TORCH_CHECK(tensor->is_cpu(), "only on the CPU, not on ", tensor->device());
        for (auto *tensor : {weight, bias})
            TORCH_CHECK(
                tensor->dim() == 1 && tensor->is_contiguous() && residual->dim() > 0 && tensor->numel() > 0 &&
                    tensor->size(0) == residual->size(-1),
                "weight ", weight->sizes(), " and bias ", bias->sizes(), " do not fit rows of ", residual->sizes());
        *y = new at::Tensor(AddNorm::apply(*branch, *residual, *weight, *bias, epsilon, probability, seed));
    });
}
