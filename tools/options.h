// The options of `train`: from the command line, over those of --config FILE.toml, over the defaults; and for
// an existing run, from the run. Every fault is an Error (kUsage) that names the option and where it was
// given.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/train/optimizer.h"
#include "engine/train/option_entry.h"
#include "engine/train/options.h"
#include "tools/command_line.h"
#include "tools/config_file.h"

namespace headrace::tools {

struct TrainRequest {
  train::RunOptions run;
  train::SessionOptions session;
  bool json = false, quiet = false;
  std::map<std::string, std::string> given;  // name of each option that was given -> "--lr" or "FILE:3:6: lr"
};

struct TrainOption {
  train::OptionEntry<TrainRequest> entry;
  bool belongs_to_run = false;  // fixed when the run is created
  bool hidden = false;
};

const std::vector<TrainOption>& train_options();

struct TrainArguments {
  std::string help;  // not empty: print it, do nothing else
  TrainRequest request;
};

// What `train` can be asked, for commands that take the same and more.
CommandSpec train_spec();
// Command line and configuration file; nothing is filled in yet.
TrainArguments parse_train_arguments(const std::vector<std::string>& arguments);
// The options of train_spec() among those that were parsed, with the configuration file that they name.
void apply_train_options(const Arguments& parsed, TrainRequest& request);

// Applies options of a command line; lists replace what is there.
void apply_options(const std::vector<GivenOption>& options, TrainRequest& request);
// Applies the entries of a configuration file.
void apply_config(const std::vector<ConfigEntry>& entries, TrainRequest& request);

// Completes the request for a run to be created: paths become absolute, --min-lr follows --lr, the schedule
// ends at --steps, --memory is three quarters of `available_bytes`.
void complete_for_new_run(TrainRequest& request, uint64_t available_bytes);

// Likewise for planning one, which needs neither data nor --steps.
void complete_for_plan(TrainRequest& request, uint64_t available_bytes);

// Completes the request for an existing run: its options are the run's; one that was given and differs is an
// Error, but data may have moved, and the model is compared by what it is (expect_model()). Without --steps,
// the run's own total.
void complete_for_existing_run(TrainRequest& request, const train::RunOptions& run, uint64_t available_bytes);

// Defaults that an optimizer has of its own. Options that were given and only others take are an Error.
void apply_optimizer(const train::OptimizerFamily& family, TrainRequest& request);

// RUN/config.toml, as train::write_run_config wrote it. Error (kCorrupt) when it cannot be read.
train::RunOptions read_run_config(const std::string& run_dir);
// The options of the run that is there: of its config.toml, or where a creation was killed before that was
// written, or somebody removed it, of its catalog, which does not hold where model and data lie.
train::RunOptions options_of_run(const std::string& run_dir);

}  // namespace headrace::tools
