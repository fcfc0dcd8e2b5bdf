// An option as a value that has a name, a type, limits and a text: one table serves the command line,
// configuration files, config.toml of a run, and the comparison of what is asked for with what a run has.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/text.h"

namespace headrace::train {

enum class OptionType { kText, kCount, kSize, kNumber, kChoice, kTextList, kSwitch };

template <typename Options>
struct OptionEntry {
  std::string name;  // without dashes
  OptionType type = OptionType::kText;
  std::string metavar;  // "N", "SIZE", "fp32|bf16"
  std::string help;
  std::vector<std::string> choices;  // kChoice
  // Sets the option from its text; returns what is wrong with it ("'0' is not a whole number of at least 1"),
  // or nothing. kTextList appends. kSwitch takes "true" and "false".
  std::function<std::string(Options&, const std::string&)> set;
  // The canonical text: equal texts mean equal values. Empty for a list.
  std::function<std::string(const Options&)> get;
};

struct NumberRange {
  double low = 0, high = 0;
  bool low_allowed = true, high_allowed = true;
};

std::string describe(NumberRange range);  // "at least 0 and below 1"
std::string set_number(std::string_view text, NumberRange range, double& value);
std::string set_count(std::string_view text, uint64_t low, uint64_t high, uint64_t& value);
std::string set_size(std::string_view text, uint64_t low, uint64_t high, uint64_t& value);
std::string set_text(std::string_view text, std::string& value);
std::string set_switch(std::string_view text, bool& value);
std::string set_choice(std::string_view text, const std::vector<std::string>& choices, size_t& index);
std::string number_text(double value);  // reads back exactly

template <typename Options>
OptionEntry<Options> count_option(std::string name, uint64_t Options::*member, uint64_t low, uint64_t high,
                                  std::string help) {
  return {std::move(name),
          OptionType::kCount,
          "N",
          std::move(help),
          {},
          [=](Options& o, const std::string& text) { return set_count(text, low, high, o.*member); },
          [=](const Options& o) { return std::to_string(o.*member); }};
}

template <typename Options>
OptionEntry<Options> size_option(std::string name, uint64_t Options::*member, uint64_t low, uint64_t high,
                                 std::string help) {
  return {std::move(name),
          OptionType::kSize,
          "SIZE",
          std::move(help),
          {},
          [=](Options& o, const std::string& text) { return set_size(text, low, high, o.*member); },
          [=](const Options& o) { return exact_size(o.*member); }};
}

template <typename Options>
OptionEntry<Options> number_option(std::string name, double Options::*member, NumberRange range,
                                   std::string help) {
  return {std::move(name),
          OptionType::kNumber,
          "X",
          std::move(help),
          {},
          [=](Options& o, const std::string& text) { return set_number(text, range, o.*member); },
          [=](const Options& o) { return number_text(o.*member); }};
}

// Of a number that may be left unsaid: then its text is empty.
template <typename Options>
OptionEntry<Options> number_option(std::string name, std::optional<double> Options::*member,
                                   NumberRange range, std::string help) {
  return {std::move(name),
          OptionType::kNumber,
          "X",
          std::move(help),
          {},
          [=](Options& o, const std::string& text) {
            double value = 0;
            std::string problem = set_number(text, range, value);
            if (problem.empty()) o.*member = value;
            return problem;
          },
          [=](const Options& o) { return o.*member ? number_text(*(o.*member)) : std::string(); }};
}

template <typename Options>
OptionEntry<Options> text_option(std::string name, std::string Options::*member, std::string metavar,
                                 std::string help) {
  return {std::move(name),
          OptionType::kText,
          std::move(metavar),
          std::move(help),
          {},
          [=](Options& o, const std::string& text) { return set_text(text, o.*member); },
          [=](const Options& o) { return o.*member; }};
}

template <typename Options>
OptionEntry<Options> switch_option(std::string name, bool Options::*member, std::string help) {
  return {std::move(name),
          OptionType::kSwitch,
          "",
          std::move(help),
          {},
          [=](Options& o, const std::string& text) { return set_switch(text, o.*member); },
          [=](const Options& o) { return std::string(o.*member ? "true" : "false"); }};
}

// `get` and `set` of the member go through its index in `choices`.
template <typename Options, typename Value>
OptionEntry<Options> choice_option(std::string name, Value Options::*member,
                                   std::vector<std::pair<std::string, Value>> values, std::string help) {
  std::vector<std::string> names;
  std::string metavar;
  for (const auto& [text, value] : values) {
    names.push_back(text);
    metavar += (metavar.empty() ? "" : "|") + text;
  }
  return {std::move(name),
          OptionType::kChoice,
          metavar,
          std::move(help),
          names,
          [=](Options& o, const std::string& text) {
            size_t index = 0;
            std::string problem = set_choice(text, names, index);
            if (problem.empty()) o.*member = values[index].second;
            return problem;
          },
          [=](const Options& o) {
            for (const auto& [text, value] : values) {
              if (value == o.*member) return text;
            }
            return std::string{};
          }};
}

}  // namespace headrace::train
