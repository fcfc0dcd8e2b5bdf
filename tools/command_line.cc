#include "tools/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <deque>
#include <memory>
#include <utility>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::tools {
namespace {

constexpr int kMostPositionals = 64;

// The library's help without what only its inner workings explain.
class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(std::string usage) : usage_(std::move(usage)) { column_width(34); }
  std::string make_usage(const CLI::App*, std::string) const override { return usage_; }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_name().empty() ? "" : " " + option->get_type_name();
  }

 private:
  std::string usage_;
};

Error usage(const CommandSpec& spec, const std::string& what) {
  return Error(ErrorKind::kUsage, what, fmt::format("see headrace {} --help", spec.name));
}

void refuse_unknown(const CommandSpec& spec, const std::vector<std::string>& remaining) {
  std::vector<std::string> names{"help"};
  for (const CommandOption& option : spec.options) {
    if (!option.hidden) names.push_back(option.name);
  }
  for (const std::string& argument : remaining) {
    if (!argument.starts_with('-') || argument == "-") continue;
    const std::string name = argument.substr(argument.find_first_not_of('-') == std::string::npos
                                                 ? argument.size()
                                                 : argument.find_first_not_of('-'));
    const std::string bare = name.substr(0, name.find('='));
    const std::string near = nearest_name(bare, names);
    throw usage(spec,
                fmt::format("unknown option {}{}", printable(argument.substr(0, argument.find('=')), 60),
                            near.empty() ? "" : fmt::format("; did you mean --{}?", near)));
  }
  if (!remaining.empty())
    throw usage(spec, fmt::format("unexpected argument '{}'", printable(remaining[0], 60)));
}

}  // namespace

Arguments parse_arguments(const CommandSpec& spec, const std::vector<std::string>& arguments) {
  CLI::App app(spec.description, "headrace " + spec.name);
  app.allow_extras();
  const std::string shown = fmt::format(fmt::runtime(spec.positional_optional ? "[{}]{}{}{}" : "{}{}{}{}"),
                                        spec.positional, spec.positional_repeatable ? "..." : "",
                                        spec.second_positional.empty() ? "" : " ", spec.second_positional);
  app.formatter(
      std::make_shared<HelpFormatter>(fmt::format("Usage: headrace {} {} [OPTIONS]\n", spec.name, shown)));
  app.footer(spec.footer);
  Arguments result;
  CLI::Option* const positional =
      app.add_option(spec.positional, result.positionals, spec.positional_help)->type_name("");
  positional->expected(1, kMostPositionals);
  std::deque<std::vector<std::string>> values;
  std::vector<CLI::Option*> parsed;
  for (const CommandOption& option : spec.options) {
    const std::string flag = "--" + option.name;
    CLI::Option* added = nullptr;
    if (option.metavar.empty()) {
      added = app.add_flag(flag, option.help);
    } else {
      added = app.add_option(flag, values.emplace_back(), option.help)
                  ->type_name(option.metavar)
                  ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
      added->allow_extra_args(false);  // one text each time, so that RUN may follow
    }
    if (option.hidden) {
      added->group("");
    } else if (!option.group.empty()) {
      added->group(option.group);
    }
    parsed.push_back(added);
  }
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as the library wants them
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    result.help = app.help();
    return result;
  } catch (const CLI::ParseError& error) {
    refuse_unknown(spec, app.remaining());
    throw usage(spec, printable(error.what()));
  }
  refuse_unknown(spec, app.remaining());
  const bool named = !result.positionals.empty() && !result.positionals[0].empty();
  if (!named && !spec.positional_optional) throw usage(spec, fmt::format("no {} was named", spec.positional));
  if (named) result.positional = result.positionals[0];
  if (!spec.second_positional.empty()) {
    if (result.positionals.size() < 2)
      throw usage(spec, fmt::format("no {} was named", spec.second_positional));
    result.second_positional = result.positionals[1];
    result.positionals.erase(result.positionals.begin() + 1);
  }
  if (!spec.positional_repeatable && result.positionals.size() > 1)
    throw usage(spec, fmt::format("unexpected argument '{}'", printable(result.positionals[1], 60)));
  for (size_t i = 0; i < parsed.size(); ++i) {
    if (spec.options[i].metavar.empty()) {
      if (parsed[i]->count() > 0 && parsed[i]->as<bool>())
        result.options.push_back({spec.options[i].name, "true"});
      continue;
    }
    const auto& texts = parsed[i]->results();
    if (texts.size() > 1 && !spec.options[i].repeatable) {
      throw usage(spec, fmt::format("--{} was given {} times", spec.options[i].name, texts.size()));
    }
    for (const std::string& text : texts) result.options.push_back({spec.options[i].name, text});
  }
  return result;
}

}  // namespace headrace::tools
