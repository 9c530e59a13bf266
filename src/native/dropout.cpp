// Dropout on the CPU whose masks come from a seed, in one pass over memory, rounded to the kind that is asked for.

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "shim.h"
#include "vectors.h"

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <typename From, typename To> void drop(const From *x, To *y, int64_t count, Mask mask) {
    constexpr int64_t size = Mask::LONGEST;
    at::parallel_for(0, (count + size - 1) / size, 64, [&](int64_t first, int64_t last) {
        vectorized([=]() RECYCLABLE_INLINE {
            float factors[size];
            for (int64_t begin = first * size; begin < std::min(last * size, count); begin += size) {
                auto length = std::min(size, count - begin);
                mask.fill(begin, length, factors);
                for (int64_t i = 0; i < length; ++i) y[begin + i] = narrow<To>(wide(x[begin + i]) * factors[i]);
            }
        });
    });
}

at::Tensor dropped(const at::Tensor &x, at::ScalarType kind, Mask mask) {
    auto from = x.contiguous();
    auto y = at::empty(x.sizes(), x.options().dtype(kind).memory_format(at::MemoryFormat::Contiguous));
    auto to = [&](auto *numbers) {
        if (kind == at::kFloat)
            drop(numbers, y.mutable_data_ptr<float>(), x.numel(), mask);
        else
            drop(numbers, y.mutable_data_ptr<at::BFloat16>(), x.numel(), mask);
    };
    if (x.scalar_type() == at::kFloat)
        to(from.const_data_ptr<float>());
    else
        to(from.const_data_ptr<at::BFloat16>());
    return y;
}

struct Dropout : torch::autograd::Function<Dropout> {
    static at::Tensor forward(AutogradContext *context, const at::Tensor &x, at::ScalarType kind, double probability, int64_t seed) {
        at::AutoDispatchBelowADInplaceOrView below;
        context->saved_data["kind"] = static_cast<int64_t>(x.scalar_type());
        context->saved_data["probability"] = probability;
        context->saved_data["seed"] = seed;
        return dropped(x, kind, Mask(probability, seed));
    }

    static variable_list backward(AutogradContext *context, const variable_list &gradients) {
        TORCH_CHECK(!at::GradMode::is_enabled(), "dropout has no second derivative");
        at::AutoDispatchBelowADInplaceOrView below;
        auto kind = static_cast<at::ScalarType>(context->saved_data["kind"].toInt());
        Mask mask(context->saved_data["probability"].toDouble(), context->saved_data["seed"].toInt());
        return {dropped(gradients[0], kind, mask), at::Tensor(), at::Tensor(), at::Tensor()};
    }
};

} // namespace

// The caller owns what `y` is pointed to.
extern "C" int recyclable_dropout(
    const at::Tensor *x, int bf16, double probability, int64_t seed, at::Tensor **y, char *error, size_t error_size) {
    return reporting(error, error_size, [&] {
        auto known = x->scalar_type() == at::kFloat || x->scalar_type() == at::kBFloat16;
        TORCH_CHECK(x->is_cpu() && known, "only fp32 and bf16 on the CPU, not ", x->scalar_type(), " on ", x->device());
        *y = new at::Tensor(Dropout::apply(*x, bf16 ? at::kBFloat16 : at::kFloat, probability, seed));
    });
}
