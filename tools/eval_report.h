// What an evaluation found, by the task of the model: as text for people, as fields of a JSON object.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "engine/train/report.h"

namespace headrace::tools {

// "loss 0.4312, accuracy 84.51%".
std::string eval_line(const train::EvalSummary& summary);
// What was found of classes, a table; empty where there are none, or too many for a confusion matrix.
std::string class_table(const train::EvalSummary& summary);
// "loss" and what the task has beside it; "tokens" of a text and "samples" of a table.
void add_eval_fields(const train::EvalSummary& summary, nlohmann::ordered_json& json);

}  // namespace headrace::tools
