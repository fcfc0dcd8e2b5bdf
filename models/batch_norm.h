// Batch norm (torch.nn.BatchNorm1d, with its epsilon and momentum): each column is normalized over the rows
// of a step. That is the whole batch, whatever its micro-batches are, because all of them pass a layer before
// the next one begins. Evaluation takes the running mean and variance, which are state of the model.
#pragma once

#include <memory>

#include "models/norm.h"

namespace headrace::models {

std::unique_ptr<Norm> make_batch_norm(const NormPlace& place);

}  // namespace headrace::models
