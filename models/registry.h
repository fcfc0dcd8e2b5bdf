// The models that --model knows: one line of a table each. A line says what the model is called, how its
// configuration is read, which data it takes, and how it is built; nothing else of the program knows it.
//
// A configuration is text: JSON in the manner of Hugging Face's config.json, whose "model_type" names the
// line. Input is hostile until checked. Failure: Error (kUsage).
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/train/data_set.h"
#include "engine/train/model.h"
#include "engine/train/options.h"
#include "engine/train/text_data.h"
#include "models/config_json.h"

namespace headrace::models {

// The data that --data names, for a model.
struct DataRequest {
  std::string path;
  const train::RunOptions& run;
  bool training = true;        // otherwise evaluation: of a folder with both, the part for it
  std::string scratch_folder;  // where a compressed file may be unpacked; files there have no names
};

struct ModelFamily {
  std::string type;                // "model_type" of a config.json
  std::vector<std::string> names;  // that --model takes
  std::string help;                // "feed-forward networks over tables of numbers and images"
  // Options of a run that mean something to this model and not to all: "seq", "hidden". Giving another
  // family's is an error.
  std::vector<std::string> options;
  std::vector<std::pair<std::string, std::string>> defaults;  // of options of the run, where not the table's
  // The configuration that a name stands for.
  Json (*by_name)(const std::string& name);
  // Checks a config.json's object and completes it. `origin` stands for it in messages; `notes` gets, for
  // people, what of it has no effect here.
  Json (*complete)(const Json& json, const std::string& origin, std::vector<std::string>& notes);
  // Settles what options and data say (`data` null: none at hand), and checks that all agree. On a
  // configuration that is settled it only checks.
  Json (*settle)(const Json& config, const train::RunOptions& run, const train::DataSet* data);
  std::unique_ptr<train::DataSet> (*open)(const Json& config, const DataRequest& request);
  // Of a settled configuration.
  std::unique_ptr<train::Model> (*build)(const Json& config, const train::RunOptions& run);
};

std::span<const ModelFamily> model_families();

// For families over text, whose tokens are bytes and whose configuration has a vocab_size.
train::TextDataOptions text_options(const Json& config, const DataRequest& request);

struct ModelConfig {
  std::string name;                     // as asked for: "gpt2", or the path of the file
  const ModelFamily* family = nullptr;  // of the table
  std::string json;                     // complete: parse_model() reads it back
  std::vector<std::string> notes;       // for people
};

// All names of all families.
std::span<const std::string> model_names();
// `model`: one of the names, else the path of a config.json or of a folder that holds one.
ModelConfig load_model(const std::string& model);
// `text`: the content of a config.json. `origin` stands for it in messages.
ModelConfig parse_model(const std::string& text, const std::string& origin);

// As the family's functions of these names.
void settle(ModelConfig& config, const train::RunOptions& run, const train::DataSet* data);
std::unique_ptr<train::DataSet> open_data(const ModelConfig& config, const DataRequest& request);
std::unique_ptr<train::Model> build_model(const ModelConfig& config, const train::RunOptions& run);

}  // namespace headrace::models
