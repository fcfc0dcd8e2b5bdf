// A subcommand's arguments: the one place that knows the library that parses them. Unknown options name the
// nearest known one. Every fault is an Error (kUsage).
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace headrace::tools {

struct CommandOption {
  std::string name;     // without dashes
  std::string metavar;  // empty: a switch, whose text is "true"
  std::string help;
  bool repeatable = false;
  bool hidden = false;  // works, but is not listed
  std::string group;    // heading in the help
};

struct CommandSpec {
  std::string name;         // "train"
  std::string description;  // a sentence
  std::string positional;   // the one positional argument: "RUN"
  std::string positional_help;
  bool positional_repeatable = false;
  bool positional_optional = false;
  std::string second_positional, second_positional_help;  // where there are two
  std::vector<CommandOption> options;
  std::string footer;  // below the options in the help
};

struct GivenOption {
  std::string name, text;  // in the order of the table, repeated options in the order given
};

struct Arguments {
  std::string help;        // not empty: --help was asked for, and this is the text; nothing else is set
  std::string positional;  // the first
  std::vector<std::string> positionals;  // one at least, where it is not optional
  std::string second_positional;
  std::vector<GivenOption> options;
};

Arguments parse_arguments(const CommandSpec& spec, const std::vector<std::string>& arguments);

}  // namespace headrace::tools
