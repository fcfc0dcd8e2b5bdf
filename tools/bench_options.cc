#include "tools/bench_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <optional>
#include <utility>

#include "storage/error.h"
#include "storage/text.h"
#include "tools/command_line.h"

namespace headrace::tools {
namespace {

using bench::BenchOptions;
using bench::Measure;
using bench::ReadWrite;

constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kMostBlockBytes = uint64_t{1} << 30;
constexpr uint64_t kMostSizeBytes = uint64_t{1} << 50;
constexpr uint64_t kMostDepth = 4096;
constexpr uint64_t kMostJobs = 64;
constexpr double kMostSeconds = 30 * 24 * 3600;

struct Option {
  CommandOption option;
  // Sets it; returns what is wrong with the text, or nothing.
  std::function<std::string(BenchRequest&, const std::string&)> set;
};

std::string quoted(const std::string& text) { return fmt::format("'{}'", printable(text, 60)); }

// As fio reads them: a letter alone is a power of 1024 ("128k"); else as everywhere ("128KiB", "128kB").
std::optional<uint64_t> parse_fio_size(const std::string& text) {
  const std::string letters = "kmgtKMGT";
  if (!text.empty() && letters.find(text.back()) != std::string::npos) return parse_size(text + "iB");
  return parse_size(text);
}

std::string set_bytes(const std::string& text, uint64_t most, uint64_t& value) {
  const auto bytes = parse_fio_size(text);
  if (!bytes)
    return fmt::format("{} is not a size; sizes are written 128k, 1MiB, 2GB or in bytes", quoted(text));
  if (*bytes == 0 || *bytes % kAlignment != 0) {
    const uint64_t near = std::max(kAlignment, *bytes / kAlignment * kAlignment);
    return fmt::format("{} is not a multiple of 4096 bytes, as direct I/O needs; {} would do", quoted(text),
                       near);
  }
  if (*bytes > most) return fmt::format("{} is more than {}", quoted(text), exact_size(most));
  value = *bytes;
  return {};
}

std::string set_number(const std::string& text, uint64_t low, uint64_t high, uint32_t& value) {
  const auto count = parse_count(text);
  if (!count || *count < low || *count > high) {
    return fmt::format("{} is not a whole number from {} to {}", quoted(text), low, high);
  }
  value = static_cast<uint32_t>(*count);
  return {};
}

// "30", "30s", "500ms", "2m", "1h".
std::string set_seconds(const std::string& text, double& value) {
  const std::vector<std::pair<std::string, double>> units{{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
  std::string number = text;
  double factor = 1;
  for (const auto& [unit, seconds] : units) {
    if (!text.ends_with(unit)) continue;
    number = text.substr(0, text.size() - unit.size());
    factor = seconds;
    break;
  }
  const auto parsed = parse_number(number);
  if (!parsed || *parsed <= 0 || *parsed * factor > kMostSeconds) {
    return fmt::format("{} is not a time above zero and up to 30 days; times are written 30, 30s, 500ms, 2m",
                       quoted(text));
  }
  value = *parsed * factor;
  return {};
}

std::string set_bit(const std::string& text, bool& value) {
  if (text != "0" && text != "1") return fmt::format("{} is neither 0 nor 1", quoted(text));
  value = text == "1";
  return {};
}

std::vector<std::string> parts(const std::string& text) {
  std::vector<std::string> list;
  for (size_t first = 0; first <= text.size();) {
    const size_t comma = std::min(text.find(',', first), text.size());
    list.push_back(text.substr(first, comma - first));
    first = comma + 1;
  }
  return list;
}

std::string set_rw(BenchRequest& request, const std::string& text) {
  request.options.rw.clear();
  for (const std::string& name : parts(text)) {
    const auto rw = bench::parse_read_write(name);
    if (!rw) {
      const std::vector<std::string> known{"read", "write", "rw", "randread", "randwrite", "randrw"};
      return fmt::format("{} is not known; {}", quoted(name), suggestion(name, known));
    }
    request.options.rw.push_back(*rw);
  }
  return {};
}

std::string set_patterns(BenchRequest& request, const std::string& text) {
  const std::vector<std::string> names{"standard", "backends", "sweep", "sustained"};
  std::vector<Measure>& measures = request.options.measures;
  measures.clear();
  if (text == "all") {
    measures = {Measure::kStandard, Measure::kBackends, Measure::kSweep, Measure::kSustained};
    return {};
  }
  for (const std::string& name : parts(text)) {
    if (name == "train") return "'train' is measured alone, with options of a training";
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end())
      return fmt::format("{} is not known; {}", quoted(name), suggestion(name, names));
    measures.push_back(static_cast<Measure>(found - names.begin()));
  }
  return {};
}

std::string set_engine(BenchRequest& request, const std::string& text) {
  for (const bench::Engine engine : {bench::Engine::kAuto, bench::Engine::kUring, bench::Engine::kThreads}) {
    if (text != bench::engine_name(engine)) continue;
    request.options.engine = engine;
    return {};
  }
  if (text == "lmdb") return "'lmdb' is measured beside the others by --pattern backends";
  return fmt::format("{} is not known; known: auto, io_uring, threads", quoted(text));
}

std::vector<Option> file_options() {
  return {
      {{"rw", "LIST", "read, write, rw, randread, randwrite, randrw; several with commas [read,write,rw]",
        false, false, "What is done"},
       set_rw},
      {{"bs", "SIZE", "of a request [1MiB]", false, false, "What is done"},
       [](BenchRequest& r, const std::string& t) {
         return set_bytes(t, kMostBlockBytes, r.options.block_bytes);
       }},
      {{"iodepth", "N", "requests in flight of each job on each drive [16]", false, false, "What is done"},
       [](BenchRequest& r, const std::string& t) { return set_number(t, 1, kMostDepth, r.options.depth); }},
      {{"numjobs", "N", "jobs at the same time, each with its own file [1]", false, false, "What is done"},
       [](BenchRequest& r, const std::string& t) { return set_number(t, 1, kMostJobs, r.options.jobs); }},
      {{"rwmixread", "PERCENT", "share of reads in rw and randrw [50]", false, false, "What is done"},
       [](BenchRequest& r, const std::string& t) {
         return set_number(t, 0, 100, r.options.mix_read_percent);
       }},
      {{"size", "SIZE", "of a file; without --runtime a job covers it once [1GiB, less where little is free]",
        false, false, "What is done"},
       [](BenchRequest& r, const std::string& t) {
         return set_bytes(t, kMostSizeBytes, r.options.size_bytes);
       }},
      {{"runtime", "TIME", "of a job: it ends then, or when the size is covered [4s, without --size]", false,
        false, "What is done"},
       [](BenchRequest& r, const std::string& t) { return set_seconds(t, r.options.runtime_seconds); }},
      {{"time_based", "", "begin again until --runtime has passed", false, false, "What is done"},
       [](BenchRequest& r, const std::string& t) {
         r.options.time_based = t == "true";
         return std::string{};
       }},
  };
}

std::vector<Option> way_options() {
  return {
      {{"pattern", "LIST",
        "standard: --rw on each directory, then striped over all; backends: io_uring, threads, plain LMDB; "
        "sweep: block sizes by depths; sustained: writes for long; several with commas, or all; train: the "
        "transfers of a model's training "
        "steps (its options: --pattern train --help) [standard]",
        false, false, "What is done"},
       set_patterns},
      {{"direct", "0|1", "1: direct I/O or nothing; 0: through the page cache [direct I/O where there is]",
        false, false, "How"},
       [](BenchRequest& r, const std::string& t) {
         bool direct = false;
         std::string problem = set_bit(t, direct);
         r.options.direct = direct ? bench::DirectMode::kYes : bench::DirectMode::kNo;
         return problem;
       }},
      {{"ioengine", "NAME", "auto, io_uring, threads [auto]", false, false, "How"}, set_engine},
      {{"end_fsync", "0|1", "sync what was written; its time counts [0]", false, false, "How"},
       [](BenchRequest& r, const std::string& t) { return set_bit(t, r.options.end_fsync); }},
      {{"randseed", "N", "of random orders and content [1]", false, false, "How"},
       [](BenchRequest& r, const std::string& t) {
         const auto seed = parse_count(t);
         r.options.seed = seed.value_or(0);
         return seed ? std::string{} : fmt::format("{} is not a whole number", quoted(t));
       }},
      {{"no-profile", "", "do not store in DIR what training goes by (.headrace-profile.json)", false, false,
        "What is said"},
       [](BenchRequest& r, const std::string&) {
         r.store_profile = false;
         return std::string{};
       }},
      {{"json", "", "one JSON object, with fio's names", false, false, "What is said"},
       [](BenchRequest& r, const std::string&) {
         r.json = true;
         return std::string{};
       }},
      {{"html", "FILE", "a report with plots, one file that opens without a network", false, false,
        "What is said"},
       [](BenchRequest& r, const std::string& t) {
         r.html_path = t;
         return t.empty() ? std::string("is empty") : std::string{};
       }},
      {{"quiet", "", "no progress", false, false, "What is said"},
       [](BenchRequest& r, const std::string&) {
         r.quiet = true;
         return std::string{};
       }},
  };
}

const std::vector<Option>& options() {
  static const std::vector<Option> all = [] {
    std::vector<Option> list = file_options();
    for (Option& option : way_options()) list.push_back(std::move(option));
    return list;
  }();
  return all;
}

CommandSpec bench_spec() {
  CommandSpec spec;
  spec.name = "bench";
  spec.description =
      "Measures how fast the storage of directories is, and says whether it suits training. Its files have "
      "no "
      "names and are gone when it ends; what it leaves is a small file with the rates, by which training "
      "chooses its transfers.";
  spec.positional = "DIR";
  spec.positional_repeatable = true;
  spec.positional_help =
      "a directory on the drive to be measured; several: each alone, then striped together";
  for (const Option& option : options()) spec.options.push_back(option.option);
  spec.footer =
      "\nOptions have fio's names where they have fio's meaning.\n"
      "Exit status: 0 done, 1 failed or stopped, 2 usage, 3 refused before measuring (space, rights, "
      "memory).";
  return spec;
}

[[noreturn]] void contradiction(const std::string& what, const std::string& advice) {
  throw Error(ErrorKind::kUsage, what, advice);
}

bool has(const BenchOptions& o, Measure measure) {
  return std::find(o.measures.begin(), o.measures.end(), measure) != o.measures.end();
}

// What only some measures have is refused where none of those is made.
void check_measures(const BenchRequest& request) {
  const BenchOptions& o = request.options;
  const bool standard = has(o, Measure::kStandard);
  const auto refuse = [&](const std::string& name, bool used) {
    if (used || !request.given.contains(name)) return;
    contradiction(
        fmt::format("--{} and --pattern contradict each other: none of these patterns lets it be chosen",
                    name),
        fmt::format("Leave --{} out, or add standard to --pattern", name));
  };
  refuse("rw", standard);
  refuse("rwmixread", standard);
  refuse("ioengine", standard || has(o, Measure::kSweep) || has(o, Measure::kSustained));
  refuse("numjobs", standard || has(o, Measure::kBackends));
  for (const char* name : {"bs", "iodepth", "end_fsync"}) {
    refuse(name, standard || has(o, Measure::kBackends) || has(o, Measure::kSustained));
  }
}

// Before anything is measured for it.
void check_html_path(const std::string& path) {
  if (path.empty()) return;
  std::error_code ignored;
  const std::filesystem::path directory = std::filesystem::absolute(path, ignored).parent_path();
  const bool writable = ::access(directory.c_str(), W_OK | X_OK) == 0;
  const std::string why = !writable                                      ? system_text(errno)
                          : std::filesystem::is_directory(path, ignored) ? system_text(EISDIR)
                                                                         : "";
  if (why.empty()) return;
  throw Error(ErrorKind::kUsage, fmt::format("--html: cannot write {}: {}", path, why),
              "Name a file in a directory in which you may make files");
}

void check_together(const BenchRequest& request) {
  const BenchOptions& o = request.options;
  check_measures(request);
  check_html_path(request.html_path);
  if (o.time_based && o.runtime_seconds == 0) {
    contradiction("--time_based was given without --runtime", "Say how long with --runtime");
  }
  const bool mixes = std::any_of(o.rw.begin(), o.rw.end(),
                                 [](ReadWrite rw) { return bench::reads(rw) && bench::writes(rw); });
  if (request.given.contains("rwmixread") && !mixes) {
    contradiction("--rwmixread was given, but nothing of --rw mixes reads and writes",
                  "Add rw or randrw to --rw, or leave --rwmixread out");
  }
  if (o.size_bytes > 0 && o.size_bytes % o.block_bytes != 0) {
    contradiction(
        fmt::format("--size {} is not a multiple of --bs {}", exact_size(o.size_bytes),
                    exact_size(o.block_bytes)),
        fmt::format("give --size {}",
                    exact_size(std::max(o.size_bytes / o.block_bytes, uint64_t{1}) * o.block_bytes)));
  }
  if (uint64_t{o.depth} * o.jobs > kMostDepth) {
    contradiction(fmt::format("--iodepth {} times --numjobs {} is more than {} requests in flight on a drive",
                              o.depth, o.jobs, kMostDepth),
                  "Give less of one of them");
  }
  for (size_t i = 0; i < o.directories.size(); ++i) {
    std::error_code ignored;
    for (size_t j = 0; j < i; ++j) {
      if (!std::filesystem::equivalent(o.directories[i], o.directories[j], ignored)) continue;
      contradiction(fmt::format("{} and {} are the same directory", o.directories[j], o.directories[i]),
                    "Name each directory once");
    }
  }
}

}  // namespace

BenchArguments parse_bench_arguments(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(bench_spec(), arguments);
  BenchArguments result;
  result.help = parsed.help;
  if (!parsed.help.empty()) return result;
  BenchRequest& request = result.request;
  request.options.directories = parsed.positionals;
  for (const GivenOption& given : parsed.options) {
    const auto known = std::find_if(options().begin(), options().end(),
                                    [&](const Option& option) { return option.option.name == given.name; });
    HEADRACE_CHECK(known != options().end(), given.name);
    const std::string problem = known->set(request, given.text);
    if (!problem.empty()) {
      throw Error(ErrorKind::kUsage, fmt::format("--{}: {}", given.name, problem),
                  "see headrace bench --help");
    }
    request.given.insert(given.name);
  }
  check_together(request);
  return result;
}

}  // namespace headrace::tools
