#include "models/layer_norm.h"

#include "engine/math/kernels.h"

namespace headrace::models {

using stream::Workspace;

std::vector<Tensor> LayerNorm::forward(Context& context, const std::vector<Tensor>& x,
                                       const Vectors& vectors) const {
  std::vector<Tensor> y;
  for (const Tensor& input : x) {
    y.push_back(context.tensor(input.rows, input.columns));
    context.compute({.reads = {input, vectors.values}, .writes = {y.back()}}, [&](Workspace) {
      const float* values = context.matrix(vectors.values).data;
      math::layer_norm(context.matrix(input), values + weight_, values + bias_, epsilon_,
                       context.matrix(y.back()));
    });
  }
  return y;
}

void LayerNorm::backward(Context& context, const std::vector<Tensor>& x, const std::vector<Tensor>& dy,
                         const std::vector<Tensor>& dx, bool add, const Vectors& vectors, int64_t seq) const {
  for (size_t i = 0; i < x.size(); i++)
    context.compute(
        {.reads = {x[i], dy[i], vectors.values},
         .writes = {dx[i], vectors.gradient},
         .workspace_bytes = math::layer_norm_backward_workspace_bytes(x[i].rows, x[i].columns, seq)},
        [&](Workspace workspace) {
          float* gradient = context.matrix(vectors.gradient).data;
          math::layer_norm_backward(context.matrix(x[i]), context.matrix(vectors.values).data + weight_,
                                    epsilon_, context.matrix(dy[i]), seq, context.matrix(dx[i]), add,
                                    gradient + weight_, gradient + bias_, true, workspace);
        });
}

namespace {

class RowNorm : public Norm {
 public:
  explicit RowNorm(const NormPlace& place)
      : vectors_(place.vectors), norm_(place.first, place.first + place.columns, 1e-5F) {}

  std::vector<Tensor> forward(Context& context, const std::vector<Tensor>& x) const override {
    return norm_.forward(context, x, {.values = context.load_vectors(vectors_), .gradient = {}});
  }
  std::vector<std::vector<Tensor>> backward(Context& context, const std::vector<std::vector<Tensor>>& x,
                                            const std::vector<std::vector<Tensor>>& dy,
                                            int64_t seq) override {
    std::vector<std::vector<Tensor>> dx(x.size());
    for (size_t s = 0; s < x.size(); s++) {
      const Vectors vectors{.values = context.load_vectors(vectors_),
                            .gradient = context.gradient_of_vectors(vectors_)};
      for (const Tensor& part : x[s]) dx[s].push_back(context.tensor(part.rows, part.columns));
      norm_.backward(context, x[s], dy[s], dx[s], false, vectors, seq);
      context.end_vectors(vectors_);
    }
    return dx;
  }

 private:
  stream::Parameter vectors_;
  LayerNorm norm_;
};

}  // namespace

std::unique_ptr<Norm> make_layer_norm(const NormPlace& place) { return std::make_unique<RowNorm>(place); }

}  // namespace headrace::models
