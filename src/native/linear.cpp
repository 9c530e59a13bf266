// y = x·Wᵀ + b in bfloat16, of weights in fp32: one node of the autograd graph in place of a dozen casts, transposes and sums.

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "shim.h"

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows of a product's result of so many columns. A GPU's matrix units read them in pieces of 16 bytes: with the 50,265 words of
// RoBERTa, a product takes five to seven times as long as with 50,304.
int64_t aligned(int64_t columns, const at::Tensor &where) {
    return where.is_cuda() && columns > 1024 ? (columns + 63) / 64 * 64 : columns;
}

// Whether each of these begins where the one before ends.
bool adjoining(at::TensorList tensors) {
    for (size_t at = 1; at < tensors.size(); ++at) {
        const auto &before = tensors[at - 1];
        if (!before.storage().is_alias_of(tensors[at].storage()) ||
            before.storage_offset() + before.numel() != tensors[at].storage_offset())
            return false;
    }
    return true;
}

// The tensors below each other, in bfloat16, and zeros up to `rows`: without copying where they were rounded ahead and lie so.
at::Tensor stacked(at::TensorList tensors, int64_t rows) {
    int64_t filled = 0;
    for (const auto &tensor : tensors) filled += tensor.size(0);
    auto shape = tensors[0].sizes().vec();
    shape[0] = rows;
    if (filled == rows) {
        if (tensors.size() == 1) return tensors[0].to(at::kBFloat16);
        if (tensors[0].scalar_type() == at::kBFloat16 && adjoining(tensors))
            // It has a version of its own: that weights have changed since, the exact ones tell, which are saved beside it.
            return tensors[0].as_strided(shape, tensors[0].strides());
    }
    auto result = at::empty(shape, tensors[0].options().dtype(at::kBFloat16));
    filled = 0;
    for (const auto &tensor : tensors) {
        result.narrow(0, filled, tensor.size(0)).copy_(tensor);
        filled += tensor.size(0);
    }
    if (filled < rows) result.narrow(0, filled, rows - filled).zero_();
    return result;
}

// The gradient of `tensors` that were stacked, as theirs.
void unstack(const at::Tensor &gradient, const std::vector<int64_t> &rows, variable_list &result) {
    int64_t begin = 0;
    for (auto size : rows) {
        result.push_back(gradient.defined() ? gradient.narrow(0, begin, size) : at::Tensor());
        begin += size;
    }
}

// a·b in this kind. CUDA leaves the sums in fp32, in which they are formed; the CPU's products round them.
at::Tensor product(const at::Tensor &a, const at::Tensor &b, at::ScalarType kind) {
    return a.is_cuda() && kind == at::kFloat ? at::mm(a, b, kind) : a.mm(b).to(kind);
}

// Where `.backward()` adds the gradients of these leaves, as one tensor of so many rows; nothing where it does not, or not to one.
at::Tensor buffer(at::TensorList leaves, int64_t rows) {
    auto *asked_for = torch::autograd::get_current_graph_task_exec_info();
    if (asked_for && !asked_for->empty()) return {}; // `grad(…)` wants them back
    std::vector<at::Tensor> gradients;
    for (const auto &leaf : leaves) {
        if (!leaf.requires_grad() || !leaf.is_leaf()) return {};
        const auto &gradient = leaf.grad();
        if (!gradient.defined() || !gradient.is_contiguous() || gradient.scalar_type() != at::kFloat) return {};
        gradients.push_back(gradient);
    }
    if (gradients.empty() || !adjoining(gradients)) return {};
    auto shape = gradients[0].sizes().vec();
    shape[0] = rows;
    return gradients[0].as_strided(shape, gradients[0].strides());
}

struct Linear : torch::autograd::Function<Linear> {
    // x (…, in), weights (out_i, in), as many biases (out_i) or none: (…, Σ out_i). Gradients reach these; what is computed with are
    // the rounded ones, where there are any.
    static at::Tensor forward(
        AutogradContext *context, const at::Tensor &x, at::TensorList weights, at::TensorList biases,
        const std::vector<at::Tensor> *rounded) {
        at::AutoDispatchBelowADInplaceOrView below; // what is computed here needs no graph of its own
        std::vector<int64_t> rows;
        int64_t columns = 0;
        for (const auto &each : weights) rows.push_back(each.size(0)), columns += each.size(0);
        auto height = aligned(columns, x);
        auto pick = [&](at::TensorList exact, const std::vector<at::Tensor> &ahead) {
            return stacked(ahead.empty() ? exact : at::TensorList(ahead), height);
        };
        auto input = x.to(at::kBFloat16), weight = pick(weights, rounded[0]);
        auto y = at::linear(input, weight, biases.empty() ? std::optional<at::Tensor>() : pick(biases, rounded[1]));
        if (height != columns) y = y.narrow(-1, 0, columns);
        auto trained = [](const at::Tensor &tensor) { return tensor.requires_grad(); };
        // Under adapters most maps are frozen: only gradients of weights need what went in.
        variable_list saved{std::any_of(weights.begin(), weights.end(), trained) ? input : at::Tensor(), weight};
        saved.insert(saved.end(), weights.begin(), weights.end());
        saved.insert(saved.end(), biases.begin(), biases.end());
        context->save_for_backward(saved);
        context->saved_data["rows"] = rows;
        context->saved_data["has_biases"] = !biases.empty();
        context->saved_data["kind"] = static_cast<int64_t>(x.scalar_type());
        return y;
    }

    static variable_list backward(AutogradContext *context, const variable_list &gradients) {
        TORCH_CHECK(!at::GradMode::is_enabled(), "a bf16 map has no second derivative");
        at::AutoDispatchBelowADInplaceOrView below;
        auto saved = context->get_saved_variables();
        const auto &input = saved[0], &weight = saved[1];
        auto rows = context->saved_data["rows"].toIntVector();
        auto has_biases = context->saved_data["has_biases"].toBool();
        auto kind = static_cast<at::ScalarType>(context->saved_data["kind"].toInt());
        auto any = [&](size_t from) {
            for (size_t at = from; at < from + rows.size(); ++at)
                if (context->needs_input_grad(at)) return true;
            return false;
        };
        auto leaves = at::TensorList(saved).slice(2);
        auto columns = gradients[0].size(-1);
        auto dy = gradients[0].reshape({-1, columns}); // (n, Σ out)
        at::Tensor dx, dw, db;
        if (has_biases && any(1 + rows.size())) {
            db = dy.sum(0, false, at::kFloat);
            if (auto sum = buffer(leaves.slice(rows.size()), columns); sum.defined()) {
                sum.add_(db);
                db = at::Tensor();
            }
        }
        if (columns != weight.size(0)) {
            auto padded = at::empty({dy.size(0), weight.size(0)}, dy.options());
            padded.narrow(1, 0, columns).copy_(dy);
            padded.narrow(1, columns, weight.size(0) - columns).zero_();
            dy = padded;
        }
        if (context->needs_input_grad(0)) {
            auto shape = gradients[0].sizes().vec();
            shape.back() = weight.size(1);
            dx = product(dy, weight, kind).view(shape);
        }
        if (any(1)) {
            auto flat = input.reshape({-1, input.size(-1)}); // (n, in)
            auto sum = buffer(leaves.slice(0, rows.size()), columns);
            if (sum.defined() && sum.is_cuda()) {
                auto slope = dy.narrow(1, 0, columns).t();
                at::addmm_outf(sum, slope, flat, at::kFloat, 1, 1, sum);
            } else {
                dw = product(dy.t(), flat, at::kFloat);
            }
        }
        variable_list result{dx};
        unstack(dw, rows, result);
        if (has_biases) unstack(db, rows, result);
        result.emplace_back(); // of `rounded`
        return result;
    }
};

} // namespace

// As many biases as weights, or none; the lists of rounded tensors may be null. The caller owns what `y` is pointed to.
extern "C" int recyclable_bf16_linear(
    const at::Tensor *x, const at::Tensor *const *weights, const at::Tensor *const *rounded_weights, size_t weight_count,
    const at::Tensor *const *biases, const at::Tensor *const *rounded_biases, size_t bias_count, at::Tensor **y, char *error,
    size_t error_size) {
    return reporting(error, error_size, [&] {
        auto all_weights = list(weights, weight_count), all_biases = list(biases, bias_count);
        std::vector<at::Tensor> rounded[] = {
            list(rounded_weights, rounded_weights ? weight_count : 0), list(rounded_biases, rounded_biases ? bias_count : 0)};
        *y = new at::Tensor(Linear::apply(*x, at::TensorList(all_weights), at::TensorList(all_biases), rounded));
    });
}
