#include "engine/train/preflight.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "engine/stream/context.h"
#include "storage/error.h"
#include "storage/text.h"

namespace headrace::train {

using stream::CacheOptions;
using stream::CachePlanner;
using stream::Context;
using stream::EntryKind;
using stream::EntrySpace;
using stream::Plan;
using stream::Program;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kProcessBytes =
    24 * kMiB;  // code, libraries, threads' stacks, I/O rings, the catalog's map
constexpr uint64_t kBytesPerOperation = 2048;  // of two programs and their plans
constexpr uint64_t kBytesPerBlock = 1024;
constexpr uint64_t kBytesPerChecksum = 48;  // both slots, and the commit that carries them

// For comparing policies only: what a core computes and a drive moves in a second.
constexpr double kFlopsPerSecond = 150e9;
constexpr double kBytesPerSecond = 1.6e9;

// The programs of consecutive steps: the first has no updates due, the others are like all that follow.
constexpr uint32_t kRecordedSteps = 4;
struct Recording {
  std::vector<Program> programs;
  std::vector<Program> pruning;  // a step that prunes, too, if any does
  uint64_t least_arena_bytes = 0;
  uint64_t live_bytes = 0;  // all blocks, and the most that is alive beside them at any time
  size_t operations = 0;
};

// Every block's weights and moments, and the most bytes of gradients and temporaries alive at a time.
uint64_t live_bytes(const Program& program, const EntrySpace& space, const BlockEntrySizes& sizes,
                    const storage::Layout& layout, bool late_updates) {
  uint64_t blocks = 0;
  for (const storage::BlockLayout& block : layout.blocks()) {
    const bool keeps_gradient = late_updates && block.slots == 2;
    blocks += block.payload_bytes +
              (keeps_gradient ? CachePlanner::placed_bytes(block.elements * sizeof(float)) : 0);
  }
  uint64_t live = 0, most = 0;
  for (const stream::Access& access : program.accesses) {
    const EntryKind kind = space.kind(access.entry);
    const bool temporary = kind == EntryKind::kTemporary;
    if (!temporary && (kind != EntryKind::kGradient || late_updates)) continue;
    const uint64_t bytes =
        CachePlanner::placed_bytes(temporary ? program.temporary_bytes[space.temporary_index(access.entry)]
                                             : sizes.entry_bytes(access.entry));
    if (access.mode == stream::AccessMode::kCreate) live += bytes;
    most = std::max(most, live);
    if (access.last) live -= std::min(live, bytes);
  }
  return blocks + most;
}

Recording record(const PreflightInput& input, const EntrySpace& space, const ExecutionPolicy& policy) {
  Context context(
      input.layout, space,
      {.planes = input.planes, .late_updates = input.late_updates, .masked = input.pruner.tensors()});
  const BlockEntrySizes sizes(input.layout, space, input.planes);
  Recording recording;
  const auto step = [&](Context& c) {
    if (input.training)
      input.model.train(c, input.batch, policy);
    else
      input.model.evaluate(c, input.batch, policy);
  };
  const auto add = [&](Program program, std::vector<Program>& to) {
    recording.least_arena_bytes =
        std::max(recording.least_arena_bytes, CachePlanner::least_arena_bytes(program, space, sizes));
    recording.live_bytes =
        std::max(recording.live_bytes, live_bytes(program, space, sizes, input.layout, input.late_updates));
    recording.operations = std::max(recording.operations, program.ops.size());
    to.push_back(std::move(program));
  };
  for (uint32_t i = 0; i < kRecordedSteps; i++) add(context.record(step, i % 2), recording.programs);
  if (!input.pruner.prunes_ever()) return recording;
  const auto pruning_step = [&, pruner = input.pruner](Context& c) mutable {
    pruner.choose_all(c);
    step(c);
  };
  add(context.record(pruning_step, kRecordedSteps % 2), recording.pruning);
  return recording;
}

CacheOptions cache_options(uint64_t arena_bytes, stream::VictimRule rule) {
  return {.arena_bytes = arena_bytes,
          .prefetch_bytes = std::min<uint64_t>(arena_bytes / 5, 64 * kMiB),
          .write_behind_bytes = std::min<uint64_t>(arena_bytes / 8, 48 * kMiB),
          .rule = rule};
}

stream::PlannedBytes steady_bytes(const PreflightInput& input, const EntrySpace& space,
                                  const Recording& recording, const CacheOptions& options,
                                  stream::StoreWrites writes) {
  const BlockEntrySizes sizes(input.layout, space, input.planes);
  stream::SpillSpace spill(1);
  CachePlanner planner(space, sizes, options, &spill);
  for (uint32_t step = 0; step + 2 < kRecordedSteps; step++)
    planner.plan(recording.programs[step], &recording.programs[step + 1], writes);
  return planner.plan(recording.programs[kRecordedSteps - 2], &recording.programs[kRecordedSteps - 1], writes)
      .bytes;
}

// On the average over the steps from commit to commit, of which the last writes every block.
stream::PlannedBytes average_bytes(const PreflightInput& input, const EntrySpace& space,
                                   const Recording& recording, const CacheOptions& options) {
  const auto last = steady_bytes(input, space, recording, options, stream::StoreWrites::kAtOnce);
  const uint64_t steps = input.commit_every;
  if (steps == 1) return last;
  const auto other = steady_bytes(input, space, recording, options, stream::StoreWrites::kDeferred);
  const auto average = [&](uint64_t of_other, uint64_t of_last) {
    return (of_other * (steps - 1) + of_last) / steps;
  };
  return {.store_read = average(other.store_read, last.store_read),
          .store_written = average(other.store_written, last.store_written),
          .spill_read = average(other.spill_read, last.spill_read),
          .spill_written = average(other.spill_written, last.spill_written)};
}

// Plans with each rule and takes the one that moves the fewest bytes.
stream::PlannedBytes choose_cache(const PreflightInput& input, const EntrySpace& space,
                                  const Recording& recording, uint64_t arena_bytes, CacheOptions& chosen) {
  stream::PlannedBytes fewest;
  for (const auto rule :
       {stream::VictimRule::kFarthest, stream::VictimRule::kCheapest, stream::VictimRule::kCheapestDirty}) {
    const CacheOptions options = cache_options(arena_bytes, rule);
    const stream::PlannedBytes bytes = average_bytes(input, space, recording, options);
    if (rule != stream::VictimRule::kFarthest && bytes.total() >= fewest.total()) continue;
    fewest = bytes;
    chosen = options;
  }
  return fewest;
}

std::vector<ExecutionPolicy> policies(const PreflightInput& input) {
  std::vector<ExecutionPolicy> all;
  uint64_t micro_batch = input.micro_batch != 0 ? input.micro_batch : input.batch.sequences();
  for (;; micro_batch = (micro_batch + 1) / 2) {
    for (const bool outside : {false, true}) {
      if (outside && micro_batch == input.batch.sequences()) continue;
      const bool sequences = input.batch.features.empty() && input.batch.graph == nullptr;
      const auto policy = [&](bool recompute_logits, bool recompute_layers) {
        return ExecutionPolicy{.micro_batch = micro_batch,
                               .recompute_logits = recompute_logits,
                               .recompute_layers = recompute_layers,
                               .blocks_outside = outside,
                               .unit_rows = sequences ? 0 : input.batch.seq,
                               .row_name = input.model.row_name()};
      };
      all.push_back(policy(false, false));
      if (!input.training || !input.model.recomputes()) continue;
      all.push_back(policy(true, false));
      all.push_back(policy(true, true));
    }
    if (micro_batch == 1 || input.micro_batch != 0) break;
  }
  if (!input.model.loops_over_time()) return all;
  // Behind the others: they read far more. All micro-batches multiply with a block while it is there.
  const size_t others = all.size();
  for (size_t i = 0; i < others; i++) {
    ExecutionPolicy policy = all[i];
    if (policy.recompute_logits != policy.recompute_layers) continue;
    if (policy.blocks_outside != (policy.micro_batch < input.batch.sequences())) continue;
    policy.streams_recurrent = true;
    all.push_back(policy);
  }
  return all;
}

// The largest operation, by what its entries are.
std::vector<MemoryPart> shares_of_largest(const PreflightInput& input, const EntrySpace& space,
                                          const Recording& recording) {
  const BlockEntrySizes sizes(input.layout, space, input.planes);
  std::vector<MemoryPart> best;
  uint64_t best_bytes = 0;
  const auto look_at = [&](const Program& program) {
    for (const stream::Op& op : program.ops) {
      std::vector<MemoryPart> shares{{"a block's weights", 0},
                                     {"a block's optimizer state", 0},
                                     {"a block's gradient", 0},
                                     {"activations and workspace of one operation", 0}};
      uint64_t sum = 0;
      for (const stream::Access& access : program.accesses_of(op)) {
        const EntryKind kind = space.kind(access.entry);
        const uint64_t bytes = CachePlanner::placed_bytes(
            kind == EntryKind::kTemporary ? program.temporary_bytes[space.temporary_index(access.entry)]
                                          : sizes.entry_bytes(access.entry));
        shares[size_t(kind)].bytes += bytes;
        sum += bytes;
      }
      if (sum > best_bytes) best = shares, best_bytes = sum;
    }
  };
  std::ranges::for_each(recording.programs, look_at);
  std::ranges::for_each(recording.pruning, look_at);
  return best;
}

// The policy that needs the least. Of those that read recurrent weights again, smaller micro-batches make
// more operations, which take memory as well: where halving them has not helped, halving them twice is not
// tried.
class Leanest {
 public:
  void add(const ExecutionPolicy& policy, uint64_t bytes) {
    if (bytes < bytes_) bytes_ = bytes, policy_ = policy;
    if (policy.streams_recurrent && bytes < streaming_bytes_)
      streaming_bytes_ = bytes, streaming_micro_batch_ = policy.micro_batch;
  }
  bool passes_over(const ExecutionPolicy& policy) const {
    return policy.streams_recurrent && policy.micro_batch < (streaming_micro_batch_ + 1) / 2;
  }
  const ExecutionPolicy& policy() const { return policy_; }

 private:
  uint64_t bytes_ = ~uint64_t{0}, streaming_bytes_ = ~uint64_t{0}, streaming_micro_batch_ = 0;
  ExecutionPolicy policy_;
};

uint64_t least_budget(const PreflightInput& input, const Recording& recording) {
  const uint64_t bytes = recording.least_arena_bytes + fixed_bytes(input.layout, recording.operations) +
                         input.reserved_bytes + input.data_bytes;
  return (bytes + kMiB - 1) / kMiB * kMiB;
}

std::vector<MemoryPart> fixed_parts(const PreflightInput& input, const Recording& recording) {
  const uint64_t tables = fixed_bytes(input.layout, recording.operations) - kProcessBytes;
  std::vector<MemoryPart> parts{{"the process and its libraries", kProcessBytes},
                                {"tables of blocks and operations", tables}};
  if (input.data_bytes > 0) parts.push_back({"batches and data that are kept in memory", input.data_bytes});
  if (input.reserved_bytes > 0) parts.push_back({"compressing checkpoints", input.reserved_bytes});
  return parts;
}

LeastMemory least_of(const PreflightInput& input, const EntrySpace& space, const ExecutionPolicy& leanest) {
  const Recording recording = record(input, space, leanest);
  LeastMemory least{least_budget(input, recording), shares_of_largest(input, space, recording)};
  for (const MemoryPart& part : fixed_parts(input, recording)) least.parts.push_back(part);
  std::stable_sort(least.parts.begin(), least.parts.end(),
                   [](const MemoryPart& a, const MemoryPart& b) { return a.bytes > b.bytes; });
  return least;
}

// What of the training could be smaller, other than the memory.
std::string less_of(const PreflightInput& input) {
  if (input.batch.graph != nullptr) return ", or take narrower layers (--hidden)";
  if (input.micro_batch != 0) return ", or a smaller --micro-batch";
  return input.batch.features.empty() ? ", or take a smaller --seq" : ", or take a smaller --batch";
}

[[noreturn]] void refuse(const PreflightInput& input, const LeastMemory& least) {
  const std::vector<MemoryPart>& parts = least.parts;
  throw Error(
      ErrorKind::kRefused,
      fmt::format(
          "a memory budget of {} is too small: this training needs at least {}; the largest parts are "
          "{} ({}), {} ({}) and {} ({})",
          exact_size(input.memory_bytes), exact_size(least.bytes), parts[0].name, format_size(parts[0].bytes),
          parts[1].name, format_size(parts[1].bytes), parts[2].name, format_size(parts[2].bytes)),
      fmt::format("give --memory {} or more{}", exact_size(least.bytes), less_of(input)));
}

}  // namespace

uint64_t BlockEntrySizes::entry_bytes(stream::EntryId id) const {
  const storage::BlockLayout& block = layout_.block(space_.block(id));
  switch (space_.kind(id)) {
    case EntryKind::kWeights:
      return storage::Layout::range_bytes(block, planes_.weights(block));
    case EntryKind::kMoments:
      if (block.slots == 1 || !planes_.has_moments()) return 0;
      return storage::Layout::range_bytes(block, planes_.moments(block));
    default:
      return block.elements * sizeof(float);
  }
}

uint64_t fixed_bytes(const storage::Layout& layout, uint64_t operations) {
  uint64_t checksums = 0;
  for (const storage::BlockLayout& block : layout.blocks()) checksums += block.chunks;
  return kProcessBytes + operations * kBytesPerOperation + layout.blocks().size() * kBytesPerBlock +
         checksums * kBytesPerChecksum;
}

double expected_step_seconds(double compute_seconds, double transfer_seconds) {
  return std::max(compute_seconds, transfer_seconds) + 0.1 * std::min(compute_seconds, transfer_seconds);
}

Preflight preflight(const PreflightInput& input) {
  const EntrySpace space(uint32_t(input.layout.blocks().size()));
  std::optional<Preflight> best;
  double best_seconds = 0;
  Leanest leanest;
  for (const ExecutionPolicy& policy : policies(input)) {
    if (policy.streams_recurrent && best) break;  // only where nothing else fits
    if (leanest.passes_over(policy)) continue;
    const Recording recording = record(input, space, policy);
    const uint64_t needed = least_budget(input, recording);
    leanest.add(policy, needed);
    if (needed > input.memory_bytes) continue;
    Preflight candidate;
    candidate.policy = policy;
    candidate.flops = recording.programs[1].flops;
    const uint64_t allowed = input.memory_bytes - input.reserved_bytes - input.data_bytes -
                             fixed_bytes(input.layout, recording.operations);
    // More than holds everything, with room for the gaps between entries, would never be used.
    const uint64_t useful = recording.live_bytes + recording.live_bytes / 4 + 16 * kMiB;
    candidate.step = choose_cache(input, space, recording, std::min(allowed, useful), candidate.cache);
    const double compute = candidate.flops / kFlopsPerSecond;
    const double transfer = double(candidate.step.total()) / kBytesPerSecond;
    const double seconds = expected_step_seconds(compute, transfer);
    if (best && seconds >= best_seconds * 0.98) continue;
    candidate.memory = fixed_parts(input, recording);
    candidate.memory.push_back({"the cache", candidate.cache.arena_bytes});
    candidate.largest_operation = shares_of_largest(input, space, recording);
    best = candidate;
    best_seconds = seconds;
    const bool nothing_extra = !policy.recompute_logits && !policy.recompute_layers;
    if (nothing_extra && transfer < compute) break;  // the disk is hidden; nothing computes less
  }
  if (!best) refuse(input, least_of(input, space, leanest.policy()));
  return *best;
}

LeastMemory least_memory(const PreflightInput& input) {
  const EntrySpace space(uint32_t(input.layout.blocks().size()));
  Leanest leanest;
  for (const ExecutionPolicy& policy : policies(input))
    if (!leanest.passes_over(policy)) leanest.add(policy, least_budget(input, record(input, space, policy)));
  return least_of(input, space, leanest.policy());
}

}  // namespace headrace::train
