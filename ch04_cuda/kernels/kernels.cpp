// The operators in C++: loops over rows, divided among torch's threads.
//
// Dimensions: B batch, K classes.

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

namespace {

constexpr int64_t kGrain = 32'768;  // smallest number of elements per thread

at::Tensor axpb(const at::Tensor& x, double a, double b) {
  TORCH_CHECK(x.device().is_cpu(), "axpb in C++ runs on a CPU, got ", x.device());
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::empty_like(in);
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "axpb", [&] {
    const scalar_t* source = in.const_data_ptr<scalar_t>();
    scalar_t* target = out.mutable_data_ptr<scalar_t>();
    const scalar_t factor = a, summand = b;
    at::parallel_for(0, in.numel(), kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) target[i] = factor * source[i] + summand;
    });
  });
  return out;
}

void check(const at::Tensor& logits, const at::Tensor& labels) {
  TORCH_CHECK(logits.device().is_cpu(), "cross_entropy in C++ runs on a CPU, got ", logits.device());
  TORCH_CHECK(logits.dim() == 2 && labels.dim() == 1 && logits.size(0) == labels.size(0),
              "cross_entropy takes (B, K) logits and (B,) labels, got ", logits.sizes(), " and ", labels.sizes());
  TORCH_CHECK(labels.scalar_type() == at::kLong, "labels must be int64, got ", labels.scalar_type());
  TORCH_CHECK(logits.size(1) > 0, "cross_entropy needs at least one class");
  TORCH_CHECK(labels.size(0) == 0 || (labels.min().item<int64_t>() >= 0 && labels.max().item<int64_t>() < logits.size(1)),
              "labels must be between 0 and ", logits.size(1) - 1);
}

// Maximum of a row, and the sum of exp(z - max), which cannot overflow.
template <typename scalar_t>
std::pair<scalar_t, scalar_t> partition(const scalar_t* row, int64_t classes) {
  const scalar_t largest = *std::max_element(row, row + classes);
  scalar_t sum = 0;
  for (int64_t k = 0; k < classes; ++k) sum += std::exp(row[k] - largest);
  return {largest, sum};
}

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& labels) {
  check(logits, labels);
  const at::Tensor z = logits.contiguous(), y = labels.contiguous();
  const int64_t rows = z.size(0), classes = z.size(1);
  at::Tensor losses = at::empty({rows}, z.options());
  AT_DISPATCH_FLOATING_TYPES(z.scalar_type(), "cross_entropy", [&] {
    const scalar_t* source = z.const_data_ptr<scalar_t>();
    const int64_t* label = y.const_data_ptr<int64_t>();
    scalar_t* target = losses.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / classes), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const scalar_t* row = source + i * classes;
        const auto [largest, sum] = partition(row, classes);
        target[i] = std::log(sum) + largest - row[label[i]];
      }
    });
  });
  return losses;
}

at::Tensor cross_entropy_backward(const at::Tensor& gradient, const at::Tensor& logits, const at::Tensor& labels) {
  check(logits, labels);
  TORCH_CHECK(gradient.dim() == 1 && gradient.size(0) == logits.size(0) && gradient.scalar_type() == logits.scalar_type(),
              "the gradient must be (B,) and of the logits' type, got ", gradient.sizes(), " ", gradient.scalar_type());
  const at::Tensor z = logits.contiguous(), y = labels.contiguous(), g = gradient.contiguous();
  const int64_t rows = z.size(0), classes = z.size(1);
  at::Tensor result = at::empty_like(z);
  AT_DISPATCH_FLOATING_TYPES(z.scalar_type(), "cross_entropy_backward", [&] {
    const scalar_t* source = z.const_data_ptr<scalar_t>();
    const scalar_t* weight = g.const_data_ptr<scalar_t>();
    const int64_t* label = y.const_data_ptr<int64_t>();
    scalar_t* target = result.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / classes), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const scalar_t* row = source + i * classes;
        scalar_t* out = target + i * classes;
        const auto [largest, sum] = partition(row, classes);
        for (int64_t k = 0; k < classes; ++k) out[k] = weight[i] * std::exp(row[k] - largest) / sum;
        out[label[i]] -= weight[i];
      }
    });
  });
  return result;
}

}  // namespace

TORCH_LIBRARY(companion_cpp, m) {
  m.def("axpb(Tensor x, float a, float b) -> Tensor");
  m.def("cross_entropy(Tensor logits, Tensor labels) -> Tensor");
  m.def("cross_entropy_backward(Tensor gradient, Tensor logits, Tensor labels) -> Tensor");
}

TORCH_LIBRARY_IMPL(companion_cpp, CPU, m) {
  m.impl("axpb", axpb);
  m.impl("cross_entropy", cross_entropy);
  m.impl("cross_entropy_backward", cross_entropy_backward);
}
