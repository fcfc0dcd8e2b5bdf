// The options that belong to a run: their table, the file RUN/config.toml, and the same as JSON for the
// catalog.
#pragma once

#include <span>
#include <string>

#include "engine/train/option_entry.h"
#include "engine/train/options.h"

namespace headrace::train {

using RunOption = OptionEntry<RunOptions>;

// All of them, in the order of the file.
std::span<const RunOption> run_option_table();

// What no single option can know: min-lr against lr, micro-batch against batch. Throws Error (kUsage).
void check_run_options(const RunOptions& options);
void require_data(const RunOptions& options);  // throws Error (kUsage) where none is named

// The text of config.toml: a comment, then one key an option. tools/ reads it.
std::string run_options_toml(const RunOptions& options);
// One object, a text an option; reads back to equal options. An option that is missing has its default: the
// text may be of an earlier version. Throws Error (kCorrupt) for anything else.
std::string run_options_json(const RunOptions& options);
RunOptions run_options_from_json(const std::string& text);

// Writes RUN/config.toml: a new file, synced and renamed into place. Throws Error (kFailed).
void write_run_config(const std::string& run_dir, const RunOptions& options);
std::string run_config_path(const std::string& run_dir);

}  // namespace headrace::train
