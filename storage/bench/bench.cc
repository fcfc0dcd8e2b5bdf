#include "storage/bench/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "storage/bench/disk_job.h"
#include "storage/bench/lmdb_engine.h"
#include "storage/error.h"
#include "storage/space.h"
#include "storage/store_shards.h"
#include "storage/text.h"

namespace headrace::bench {
namespace {

constexpr uint64_t kChosenSizeBytes = uint64_t{1} << 30;
constexpr uint64_t kChosenSustainedBytes = uint64_t{16} << 30;
constexpr double kChosenStandardSeconds = 48;  // of all standard jobs together, at most
constexpr double kChosenSeconds = 4, kChosenSustainedSeconds = 60, kChosenSweepSeconds = 0.4;
constexpr double kExpectedBytesPerSecond = 1e9;  // for the progress of what has no time of its own

bool has(const std::vector<Measure>& measures, Measure measure) {
  return std::find(measures.begin(), measures.end(), measure) != measures.end();
}

// A job to be run, and how long it may take, for the progress.
struct Step {
  std::string phase;
  double expected_seconds = 0;
  std::function<void(const JobOptions& options)> run;
};

class Bench {
 public:
  Bench(const BenchOptions& options, const BenchListener& listener, const std::atomic<int>& stop)
      : options_(options), listener_(listener), stop_(stop), memory_(options.seed) {}

  Report run() {
    report_.unix_seconds =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    look();
    choose();
    require_space();
    plan();
    double all = 0, done = 0;
    for (const Step& step : steps_) all += step.expected_seconds;
    for (const Step& step : steps_) {
      if (stop_ != 0) break;
      const auto tell = [&](double seconds, uint64_t) {
        const double inside = std::min(seconds, step.expected_seconds);
        if (listener_.working) listener_.working(step.phase, (done + inside) / all);
      };
      tell(0, 0);
      JobOptions job;
      job.stop = &stop_;
      job.end_fsync = options_.end_fsync;
      job.progress = tell;
      step.run(job);
      done += step.expected_seconds;
    }
    report_.stopped = stop_ != 0;
    if (listener_.working) listener_.working("", 1);
    return std::move(report_);
  }

 private:
  // ---- before anything is written

  void look() {
    report_.system = look_at_system();
    for (const std::string& directory : options_.directories) {
      report_.directories.push_back(look_at_directory(directory));
      report_.findings.push_back(
          findings(report_.directories.back(), report_.system, largest_buffers(options_)));
    }
    for (size_t i = 0; i < options_.directories.size(); ++i) {
      drives_.push_back(storage::drive_number(options_.directories, i));
    }
  }

  void note(std::string text) { report_.notes.push_back(std::move(text)); }

  // The least that any of the directories has free for each file of `files` in each directory.
  uint64_t free_for_each(uint64_t files) const {
    uint64_t least = ~uint64_t{0};
    for (const DirectoryFacts& directory : report_.directories) {
      uint64_t sharing = 0;
      for (const DirectoryFacts& other : report_.directories) sharing += other.device == directory.device;
      least = std::min(least, directory.free_bytes / (sharing * files));
    }
    return least;
  }

  uint64_t chosen_size(uint64_t most, uint64_t files, uint64_t block) const {
    return std::max(block, std::min(most, free_for_each(files) / 4) / block * block);
  }

  void choose() {
    uint64_t block = options_.block_bytes;
    if (has(options_.measures, Measure::kSweep)) {
      for (const uint64_t bytes : options_.sweep_block_bytes) block = std::max(block, bytes);
    }
    const bool size_chosen = options_.size_bytes == 0, time_chosen = options_.runtime_seconds == 0;
    options_.sustained_seconds = time_chosen ? kChosenSustainedSeconds : options_.runtime_seconds;
    options_.sweep_seconds = time_chosen ? kChosenSweepSeconds : options_.runtime_seconds;
    options_.sustained_size_bytes =
        size_chosen ? chosen_size(kChosenSustainedBytes, 1, options_.block_bytes) : options_.size_bytes;
    if (size_chosen) {
      options_.size_bytes = chosen_size(kChosenSizeBytes, options_.jobs, block);
      note_size();
    }
    if (size_chosen && time_chosen) {
      options_.runtime_seconds = chosen_seconds();
      options_.time_based = true;
    }
    if (time_chosen) note_time();
    std::set<uint32_t> distinct(drives_.begin(), drives_.end());
    if (distinct.size() < drives_.size()) {
      note("some of the directories are on one file system: striping over them gains nothing");
    }
  }

  // So that what is done by default is done within a minute, however many directories there are.
  double chosen_seconds() const {
    const size_t places = options_.directories.size() + (options_.directories.size() > 1 ? 1 : 0);
    return std::min(kChosenSeconds,
                    kChosenStandardSeconds / static_cast<double>(places * options_.rw.size()));
  }

  void note_size() {
    if (needs_files())
      note(fmt::format("files of {}, chosen; --size says otherwise", exact_size(options_.size_bytes)));
    if (!has(options_.measures, Measure::kSustained)) return;
    note(fmt::format("writes for long go over a file of {}, chosen; --size says otherwise",
                     exact_size(options_.sustained_size_bytes)));
  }

  void note_time() {
    std::vector<std::string> times;
    const bool jobs =
        has(options_.measures, Measure::kStandard) || has(options_.measures, Measure::kBackends);
    if (jobs && options_.runtime_seconds > 0)
      times.push_back(fmt::format("{:.3g} seconds a job", options_.runtime_seconds));
    if (has(options_.measures, Measure::kSweep)) {
      times.push_back(fmt::format("{} seconds a point of the sweep", kChosenSweepSeconds));
    }
    if (has(options_.measures, Measure::kSustained)) {
      times.push_back(fmt::format("{:.0f} seconds of writes for long", kChosenSustainedSeconds));
    }
    if (!times.empty()) note(joined(times) + ", chosen; --runtime says otherwise");
  }

  bool needs_files() const {
    return has(options_.measures, Measure::kStandard) || has(options_.measures, Measure::kBackends) ||
           has(options_.measures, Measure::kSweep);
  }

  void require_space() const {
    uint64_t bytes = needs_files() ? options_.size_bytes * options_.jobs : 0;
    if (has(options_.measures, Measure::kBackends)) {
      bytes += LmdbEngine::file_bytes(options_.size_bytes / options_.block_bytes, options_.block_bytes);
    }
    if (has(options_.measures, Measure::kSustained)) bytes = std::max(bytes, options_.sustained_size_bytes);
    std::vector<storage::SpaceWanted> wanted;
    for (const std::string& directory : options_.directories) wanted.push_back({directory, bytes});
    for (const storage::SpaceNeeded& space : storage::space_by_file_system(wanted)) {
      if (space.needed_bytes <= space.free_bytes) continue;
      throw Error(ErrorKind::kRefused,
                  fmt::format("too little space in {}: {} needed, {} free", space.directory,
                              format_size(space.needed_bytes), format_size(space.free_bytes)),
                  "Give a smaller --size (or fewer --numjobs), free space there, or name another directory");
    }
  }

  // ---- what is to be done

  double job_seconds() const {
    if (options_.runtime_seconds > 0) return options_.runtime_seconds;
    return static_cast<double>(options_.size_bytes) * options_.jobs / kExpectedBytesPerSecond;
  }

  Record record_of(std::string group, std::vector<size_t> directories, ReadWrite rw) const {
    Record record;
    record.group = std::move(group);
    for (const size_t d : directories) record.directories.push_back(options_.directories[d]);
    record.rw = rw;
    record.block_bytes = options_.block_bytes;
    record.size_bytes = options_.size_bytes;
    record.depth = options_.depth;
    record.jobs = options_.jobs;
    record.mix_read_percent = options_.mix_read_percent;
    record.runtime_seconds = options_.runtime_seconds;
    record.time_based = options_.time_based;
    record.end_fsync = options_.end_fsync;
    record.engine = options_.engine;
    return record;
  }

  void add_step(const std::string& name, double seconds, std::function<void(const JobOptions&)> run) {
    steps_.push_back({name, seconds, std::move(run)});
  }
  void add_job(const Record& record, std::vector<size_t> directories, double seconds) {
    const std::string where =
        directories.size() > 1 ? "all directories" : options_.directories[directories[0]];
    add_step(
        fmt::format("{}, {}", read_write_name(record.rw), where), seconds,
        [this, record, directories](const JobOptions& options) { measure(record, directories, options); });
  }

  void plan() {
    if (needs_files()) plan_fill();
    if (has(options_.measures, Measure::kStandard)) plan_standard();
    for (size_t d = 0; d < options_.directories.size(); ++d) {
      if (has(options_.measures, Measure::kBackends)) plan_backends(d);
      if (has(options_.measures, Measure::kSweep)) plan_sweep(d);
    }
    if (!has(options_.measures, Measure::kSustained)) return;
    for (size_t d = 0; d < options_.directories.size(); ++d) plan_sustained(d);
  }

  void plan_fill() {
    files_.resize(options_.directories.size());
    for (size_t d = 0; d < options_.directories.size(); ++d) {
      Record record = record_of("fill", {d}, ReadWrite::kWrite);
      record.runtime_seconds = 0;
      record.time_based = false;
      record.end_fsync = true;
      const double seconds =
          static_cast<double>(options_.size_bytes) * options_.jobs / kExpectedBytesPerSecond;
      add_step("filling files in " + options_.directories[d], seconds,
               [this, d, record](const JobOptions& options) {
                 for (uint32_t job = 0; job < options_.jobs; ++job) {
                   files_[d].push_back(
                       make_scratch_file(options_.directories[d], options_.size_bytes, options_.direct));
                 }
                 measure(record, {d}, options);
               });
    }
  }

  void plan_standard() {
    std::vector<size_t> all;
    for (size_t d = 0; d < options_.directories.size(); ++d) {
      for (const ReadWrite rw : options_.rw) add_job(record_of("standard", {d}, rw), {d}, job_seconds());
      all.push_back(d);
    }
    if (all.size() == 1) return;
    for (const ReadWrite rw : options_.rw) add_job(record_of("standard", all, rw), all, job_seconds());
  }

  void plan_backends(size_t d) {
    for (const Engine engine : {Engine::kUring, Engine::kThreads}) {
      if (engine == Engine::kUring && !report_.system.io_uring) continue;
      for (const ReadWrite rw : {ReadWrite::kRead, ReadWrite::kWrite}) {
        Record record = record_of("backends", {d}, rw);
        record.engine = engine;
        add_job(record, {d}, job_seconds());
      }
    }
    add_step("LMDB, " + options_.directories[d], 3 * job_seconds(),
             [this, d](const JobOptions& options) { measure_lmdb(d, options); });
  }

  void plan_sweep(size_t d) {
    for (const ReadWrite rw : {ReadWrite::kRandomRead, ReadWrite::kRandomWrite}) {
      for (const uint64_t block : options_.sweep_block_bytes) {
        for (const uint32_t depth : options_.sweep_depths) {
          Record record = record_of("sweep", {d}, rw);
          record.block_bytes = block;
          record.size_bytes = options_.size_bytes / block * block;
          record.depth = depth;
          record.jobs = 1;
          record.runtime_seconds = options_.sweep_seconds;
          record.time_based = true;
          record.end_fsync = false;
          if (record.size_bytes > 0) add_job(record, {d}, options_.sweep_seconds);
        }
      }
    }
  }

  void plan_sustained(size_t d) {
    Record record = record_of("sustained", {d}, ReadWrite::kWrite);
    record.size_bytes = options_.sustained_size_bytes;
    record.jobs = 1;
    record.runtime_seconds = options_.sustained_seconds;
    record.time_based = true;
    record.end_fsync = false;
    add_step(
        "writing for long, " + options_.directories[d], options_.sustained_seconds,
        [this, d, record](const JobOptions& options) {
          files_.clear();  // their space may be needed
          files_.resize(options_.directories.size());
          files_[d].push_back(make_scratch_file(options_.directories[d], record.size_bytes, options_.direct));
          measure(record, {d}, options);
        });
  }

  // ---- doing it

  void measure(Record record, const std::vector<size_t>& directories, const JobOptions& options) {
    std::vector<std::vector<JobFile>> files(record.jobs);
    for (uint32_t job = 0; job < record.jobs; ++job) {
      for (const size_t d : directories) files[job].push_back({&files_[d][job], drives_[d]});
    }
    run_disk_job(record, files, memory_, options_.seed, options);
    finish(std::move(record), directories[0]);
  }

  void measure_lmdb(size_t d, const JobOptions& options) {
    const uint64_t values = options_.size_bytes / options_.block_bytes;
    LmdbEngine engine(options_.directories[d], values, options_.block_bytes);
    for (const ReadWrite rw : {ReadWrite::kWrite, ReadWrite::kRead, ReadWrite::kWrite}) {
      const bool fill = report_.records.empty() || report_.records.back().engine != Engine::kLmdb;
      Record record = record_of("backends", {d}, rw);
      record.engine = Engine::kLmdb;
      record.engine_description =
          fmt::format("LMDB through its map, a commit every {}", format_size(LmdbEngine::kTransactionBytes));
      record.depth = record.jobs = 1;
      record.end_fsync = true;
      record.time_based = false;  // a second pass over the map would read from memory
      if (fill) {
        record.group = "fill";
        record.runtime_seconds = 0;
      }
      FilePattern pattern({rw, {0}, record.size_bytes, record.block_bytes, 50, false, options_.seed});
      JobOptions job = options;
      job.runtime_seconds = record.runtime_seconds;
      record.result = engine.run(pattern, memory_.take(2 * record.block_bytes), job);
      finish(std::move(record), d);
      if (stop_ != 0) return;
    }
  }

  void finish(Record record, size_t directory) {
    const DirectoryFacts& facts = report_.directories[directory];
    if (facts.in_memory) record.from_cache = fmt::format("{} keeps files in memory", facts.file_system);
    if (record.from_cache.empty() && record.engine != Engine::kLmdb) {
      record.from_cache = memory_like(record.result, record.block_bytes);
    }
    if (record.result.bytes() == 0) return;
    if (listener_.measured) listener_.measured(record);
    report_.records.push_back(std::move(record));
  }

  BenchOptions options_;
  const BenchListener& listener_;
  const std::atomic<int>& stop_;
  Report report_;
  std::vector<uint32_t> drives_;  // of the directories
  std::vector<Step> steps_;
  std::vector<std::vector<storage::BlockFile>> files_;  // of each directory, one for each job
  BufferMemory memory_;
};

}  // namespace

uint64_t largest_buffers(const BenchOptions& options) {
  uint64_t bytes = options.block_bytes * options.depth * options.jobs * options.directories.size();
  if (!has(options.measures, Measure::kSweep)) return bytes;
  const uint64_t block =
      *std::max_element(options.sweep_block_bytes.begin(), options.sweep_block_bytes.end());
  const uint32_t depth = *std::max_element(options.sweep_depths.begin(), options.sweep_depths.end());
  return std::max(bytes, block * depth);
}

Report run_bench(const BenchOptions& options, const BenchListener& listener, const std::atomic<int>& stop) {
  return Bench(options, listener, stop).run();
}

}  // namespace headrace::bench
