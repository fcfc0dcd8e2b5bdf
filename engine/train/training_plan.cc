#include "engine/train/training_plan.h"

#include <algorithm>
#include <cmath>

#include "engine/train/compute_rate.h"
#include "engine/train/session_io.h"
#include "storage/error.h"
#include "storage/run_description.h"
#include "storage/run_dir.h"
#include "storage/space.h"

namespace headrace::train {
namespace {

constexpr uint64_t kWarmUpSteps = 2, kWarmSteps = 10, kMostSteps = 64;  // that are planned
constexpr int kMostTries = 6;                                           // of least_hiding_tokens()
constexpr double kMostTimes = 64;                                       // the sequences, that it tries

// Plans one step after the other as Session does: programs alternate in the temporaries that they use, and
// late updates belong to the step before.
class StepPlanner {
 public:
  StepPlanner(const PreflightInput& input, const ExecutionPolicy& policy, stream::CacheOptions cache)
      : input_(input),
        space_(uint32_t(input.layout.blocks().size())),
        sizes_(input.layout, space_, input.planes) {
    stream::Context context(
        input.layout, space_,
        {.planes = input.planes, .late_updates = input.late_updates, .masked = input.pruner.tensors()});
    for (uint32_t i = 0; i < 3; i++)  // the first has no updates due; the others alternate from then on
      programs_.push_back(
          context.record([&](stream::Context& c) { input.model.train(c, input.batch, policy); }, 1 - i % 2));
    const uint64_t fixed = fixed_bytes(input.layout, programs_.back().ops.size()) + input.data_bytes;
    cache.arena_bytes = std::min(cache.arena_bytes, input.memory_bytes - std::min(fixed, input.memory_bytes));
    planner_.emplace(space_, sizes_, cache, &spill_);
  }

  // Throws Error (kRefused) where an operation does not fit.
  stream::PlannedBytes next() {
    step_++;
    const uint64_t updated = input_.late_updates ? step_ - 1 : step_;
    const auto writes =
        updated % input_.commit_every == 0 ? stream::StoreWrites::kAtOnce : stream::StoreWrites::kDeferred;
    return planner_->plan(program_of(step_), &program_of(step_ + 1), writes).bytes;
  }
  double flops() const { return programs_.back().flops; }  // of a step
  uint64_t spill_bytes() const { return spill_.file_bytes(0); }

 private:
  const stream::Program& program_of(uint64_t step) const { return programs_[step == 1 ? 0 : 1 + step % 2]; }

  const PreflightInput& input_;
  stream::EntrySpace space_;
  BlockEntrySizes sizes_;
  std::vector<stream::Program> programs_;
  stream::SpillSpace spill_{1};
  std::optional<stream::CachePlanner> planner_;
  uint64_t step_ = 0;
};

// Drives in the order of the run's shards, each with its share of what a step moves.
std::vector<PlannedDrive> drives_of(const std::vector<std::string>& places) {
  std::vector<PlannedDrive> drives;
  std::vector<uint64_t> devices;
  for (const std::string& place : places) {
    const uint64_t device = storage::device_of(place);
    size_t i = 0;
    while (i < devices.size() && devices[i] != device) i++;
    if (i == devices.size()) {
      devices.push_back(device);
      drives.push_back({});
      drives.back().directory = place;
    }
    drives[i].share += 1.0 / double(places.size());
  }
  return drives;
}

void add_space(std::vector<PlannedDrive>& drives, const storage::SpaceNeeded& space) {
  const uint64_t device = storage::device_of(space.directory);
  const auto found = std::find_if(drives.begin(), drives.end(), [&](const PlannedDrive& drive) {
    return storage::device_of(drive.directory) == device;
  });
  PlannedDrive& drive = found != drives.end() ? *found : drives.emplace_back();
  if (drive.directory.empty()) drive.directory = space.directory;
  drive.needed_bytes += space.needed_bytes;
  drive.free_bytes = space.free_bytes;
}

std::vector<PlannedDrive> plan_drives(const TrainInput& input, const storage::Layout& layout, bool exists,
                                      uint64_t spill_bytes) {
  if (!exists) storage::require_shard_directories(input.session.shard_dirs);
  const std::vector<std::string> places = shard_places(input.session);
  std::vector<PlannedDrive> drives = drives_of(places);
  if (!exists) {
    const storage::StoreConfig config{.run_dir = input.session.run_dir,
                                      .shard_dirs = input.session.shard_dirs,
                                      .layout = layout,
                                      .model_json = input.model_json,
                                      .cursor_json = "{}"};
    for (const storage::SpaceNeeded& space : storage::Store::space_needed(config)) add_space(drives, space);
  }
  std::vector<storage::SpaceWanted> spilled;
  spilled.reserve(places.size());
  for (const std::string& place : places) spilled.push_back({place, spill_bytes / places.size()});
  for (const storage::SpaceNeeded& space : storage::space_by_file_system(spilled)) add_space(drives, space);
  return drives;
}

void find_profiles(TrainingPlan& plan) {
  for (PlannedDrive& drive : plan.drives) {
    if (drive.share == 0) continue;
    storage::FoundProfile found = storage::find_drive_profile(drive.directory);
    if (!found.warning.empty()) plan.warnings.push_back(found.warning);
    drive.profile = std::move(found.profile);
    drive.profile_path = std::move(found.path);
  }
}

bool knows_rates(const TrainingPlan& plan) {
  return std::all_of(plan.drives.begin(), plan.drives.end(),
                     [](const PlannedDrive& drive) { return drive.share == 0 || drive.profile; });
}

// All drives work at the same time.
double disk_seconds(const TrainingPlan& plan, const stream::PlannedBytes& bytes) {
  double longest = 0;
  for (const PlannedDrive& drive : plan.drives)
    if (drive.share > 0)
      longest = std::max(longest, transfer_seconds(*drive.profile, drive.share * double(bytes.read()),
                                                   drive.share * double(bytes.written())));
  return longest;
}

Bottleneck bottleneck_of(const TrainingPlan& plan) {
  if (!plan.disk_seconds) return Bottleneck::kUnknown;
  if (plan.compute_seconds >= *plan.disk_seconds) return Bottleneck::kCompute;
  double reading = 0, writing = 0;
  for (const PlannedDrive& drive : plan.drives) {
    if (drive.share == 0) continue;
    reading = std::max(reading, drive.share / drive.profile->read.bytes_per_second);
    writing = std::max(writing, drive.share / drive.profile->write.bytes_per_second);
  }
  const stream::PlannedBytes& step = plan.steps.mean;
  return reading * double(step.read()) >= writing * double(step.written()) ? Bottleneck::kReading
                                                                           : Bottleneck::kWriting;
}

BatchData first_batch(const TrainInput& input) {
  BatchData batch;
  if (input.data != nullptr)
    input.data->fetch(0, batch);
  else
    input.model.draw(input.run.seed, input.run.batch, input.run.seq, batch);
  return batch;
}

void predict_seconds(const TrainInput& input, const storage::Layout& layout, TrainingPlan& plan) {
  const Preflight& preflight = plan.preflight;
  plan.flops_per_second =
      measure_flops_per_second(layout, input.run.weights, preflight.policy.micro_batch * input.run.seq);
  plan.compute_seconds = preflight.flops / plan.flops_per_second;
  if (!knows_rates(plan)) return;
  const auto of_bytes = [&](const stream::PlannedBytes& bytes) { return disk_seconds(plan, bytes); };
  plan.disk_seconds = of_bytes(plan.steps.mean);
  plan.seconds = expected_step_seconds(plan.compute_seconds, *plan.disk_seconds);
  plan.bottleneck = bottleneck_of(plan);
  plan.hiding_tokens = least_hiding_tokens(input, layout, preflight, plan.flops_per_second, of_bytes);
}

}  // namespace

PlannedSteps plan_steps(const PreflightInput& input, const Preflight& preflight) {
  StepPlanner planner(input, preflight.policy, preflight.cache);
  const uint64_t cycles = (kWarmSteps + input.commit_every - 1) / input.commit_every;
  const uint64_t steps = std::min(kWarmUpSteps + cycles * input.commit_every, kMostSteps);
  PlannedSteps planned;
  for (uint64_t step = 1; step <= steps; step++) planned.first.push_back(planner.next());
  planned.spill_bytes = planner.spill_bytes();
  if (steps == kMostSteps) {
    planned.mean = preflight.step;  // a cycle is longer than what is planned
    return planned;
  }
  const auto mean = [&](uint64_t stream::PlannedBytes::*part) {
    uint64_t sum = 0;
    for (uint64_t step = kWarmUpSteps; step < steps; step++) sum += planned.first[step].*part;
    return sum / (steps - kWarmUpSteps);
  };
  planned.mean = {.store_read = mean(&stream::PlannedBytes::store_read),
                  .store_written = mean(&stream::PlannedBytes::store_written),
                  .spill_read = mean(&stream::PlannedBytes::spill_read),
                  .spill_written = mean(&stream::PlannedBytes::spill_written)};
  return planned;
}

double transfer_seconds(const storage::DriveProfile& drive, double read_bytes, double written_bytes) {
  const double read_rate = drive.read.bytes_per_second, write_rate = drive.write.bytes_per_second;
  if (!drive.mix) return read_bytes / read_rate + written_bytes / write_rate;
  // Together as long as both last, then the rest alone.
  const double together = std::min(read_bytes / drive.mix->read_bytes_per_second,
                                   written_bytes / drive.mix->written_bytes_per_second);
  const double read_left = read_bytes - together * drive.mix->read_bytes_per_second;
  const double written_left = written_bytes - together * drive.mix->written_bytes_per_second;
  return together + read_left / read_rate + written_left / write_rate;
}

std::optional<uint64_t> least_hiding_tokens(
    const TrainInput& input, const storage::Layout& layout, const Preflight& preflight,
    double flops_per_second, const std::function<double(const stream::PlannedBytes&)>& disk_seconds) {
  const auto missing = [&](const stream::PlannedBytes& moved, double flops) {
    return disk_seconds(moved) / (flops / flops_per_second);  // how many times more there would have to be
  };
  BatchData sample;
  input.model.draw(input.run.seed, 1, input.run.seq, sample);
  // Computing grows with the sequences; transfers hardly do, but for activations that are spilled.
  uint64_t sequences = input.run.batch;
  double factor = missing(preflight.step, preflight.flops);
  for (int i = 0; i < kMostTries; i++) {
    const double wanted = std::ceil(double(sequences) * factor);
    if (!(wanted <= kMostTimes * double(input.run.batch))) return std::nullopt;
    const auto next = std::max<uint64_t>(uint64_t(wanted), 1);
    if (next == sequences) break;
    sequences = next;
    BatchData drawn;
    input.model.draw(input.run.seed, sequences, input.run.seq, drawn);
    if (sequences > 1 && drawn.rows() == sample.rows()) return std::nullopt;  // a step is all that there is
    const PreflightInput asked = preflight_input(input, layout, drawn, true);
    ExecutionPolicy policy = preflight.policy;
    policy.micro_batch = std::min(policy.micro_batch, drawn.view().sequences());
    try {
      StepPlanner planner(asked, policy, preflight.cache);
      for (uint64_t step = 1; step <= kWarmUpSteps; step++) planner.next();
      factor = missing(planner.next(), planner.flops());
    } catch (const Error&) {
      return std::nullopt;  // the budget does not hold so many
    }
    if (factor <= 1 && factor > 0.9) break;
  }
  if (factor > 1) return std::nullopt;  // what is spilled grows as computing does
  return sequences * sample.rows();
}

TrainingPlan plan_training(const TrainInput& input) {
  TrainingPlan plan;
  plan.exists = storage::Store::exists(input.session.run_dir);
  if (plan.exists) plan.step = storage::describe_run(input.session.run_dir).step;
  const BatchData batch = first_batch(input);
  const storage::Layout layout = make_layout(input.model, input.run);
  plan.parameters = parameter_count(input.model, layout);
  plan.state_bytes = layout.payload_bytes();
  plan.memory_bytes = input.session.memory_bytes;
  plan.tokens = batch.rows();
  plan.rows = input.model.row_name();
  plan.drawn_tokens = input.data == nullptr;
  with_session_threads(input.session, [&] {
    const PreflightInput asked = preflight_input(input, layout, batch, true);
    plan.preflight = preflight(asked);
    plan.steps = plan_steps(asked, plan.preflight);
    plan.least = least_memory(asked);
    plan.drives = plan_drives(input, layout, plan.exists, plan.steps.spill_bytes);
    find_profiles(plan);
    predict_seconds(input, layout, plan);
  });
  return plan;
}

}  // namespace headrace::train
