#include "engine/train/checkpointer.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "engine/math/parallel.h"
#include "engine/train/cursor.h"
#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_save.h"
#include "storage/error.h"
#include "storage/text.h"

namespace headrace::train {

using storage::BlockId;

namespace {

storage::CheckpointOptions writer_options(const SessionOptions& session, uint32_t threads) {
  const uint64_t asked = session.checkpoint_threads;
  return {.level = int(session.checkpoint_level),
          .workers = asked == 0 ? threads : uint32_t(std::min<uint64_t>(asked, threads)),
          .at = {}};
}

// Only these have packs that stay as they are from step to step.
bool has_frozen_blocks(const storage::Layout& layout) {
  return std::any_of(layout.tensors().begin(), layout.tensors().end(),
                     [](const storage::TensorSpec& tensor) { return tensor.slots == 1; });
}

uint64_t largest_plane_bytes(const storage::Layout& layout) {
  uint64_t largest = 0;
  for (const storage::BlockLayout& block : layout.blocks())
    for (const storage::PlaneExtent& plane : block.planes) largest = std::max(largest, plane.padded_bytes);
  return largest;
}

}  // namespace

Checkpointer::Checkpointer(Parts parts)
    : parts_(std::move(parts)),
      writer_(parts_.store.layout(), writer_options(parts_.session, parts_.threads)) {
  storage::remove_leftovers(parts_.session.run_dir);
}

Checkpointer::~Checkpointer() { wait(); }

uint64_t Checkpointer::memory_bytes(const storage::Layout& layout, const SessionOptions& session,
                                    uint32_t threads) {
  return storage::CheckpointWriter::memory_bytes(layout, writer_options(session, threads)) +
         largest_plane_bytes(layout);  // to read what does not pass by
}

storage::CheckpointTarget Checkpointer::target(uint64_t step, bool is_committed) {
  const storage::Store& store = parts_.store;
  const std::string& run_dir = parts_.session.run_dir;
  const bool weights_only = parts_.session.checkpoint_weights_only;
  return {
      .directory = storage::checkpoint_directory(run_dir, step, weights_only),
      .manifest = {.run_id = store.run_id(),
                   .step = step,
                   .weights_only = weights_only,
                   .automatic = true,
                   .model_json = store.model_json(),
                   .cursor_json = cursor_json({.step = step}),
                   .configuration = parts_.configuration,
                   .tensors = {},
                   .stored_bytes = {},
                   .packs = {}},
      .earlier = has_frozen_blocks(store.layout()) ? storage::earlier_checkpoint(run_dir, weights_only) : "",
      // Until the step is committed its blocks are on their way to slots that the store counts as of the
      // step after the committed one.
      .written_step = [&store, is_committed, writing = store.step() + 1](BlockId block) {
        const bool trained = store.layout().block(block).slots == 2;
        return trained && !is_committed ? writing : store.written_step(block);
      }};
}

// At once, since a full disk is full for the training too; but nobody may be adding to it.
void Checkpointer::discard() {
  try {
    writer_.discard();
  } catch (const Error& error) {
    notes_.push_back(error.what());
  }
}

void Checkpointer::drop(const std::string& why) {
  state_ = State::kFailed;
  notes_.push_back(fmt::format("the checkpoint of step {} is dropped: {}", step_, why));
}

void Checkpointer::begin(uint64_t step) {
  if (publisher_.joinable()) publisher_.join();
  const std::lock_guard lock(mutex_);
  step_ = step;
  discard();  // of a step that was never committed
  try {
    storage::CheckpointTarget next = target(step, false);
    if (std::filesystem::exists(next.directory)) {
      state_ = State::kFailed;  // of a time before the run was taken back to an earlier step
      return;
    }
    writer_.begin(std::move(next));
    state_ = State::kSaving;
  } catch (const Error& error) {
    drop(error.what());
  }
}

bool Checkpointer::enter(uint64_t step) {
  const std::lock_guard begin_lock(begin_mutex_);
  if (step_ != step) begin(step);
  const std::lock_guard lock(mutex_);
  if (state_ != State::kSaving) return false;
  saving_++;
  return true;
}

void Checkpointer::leave(const std::string& fault) {
  const std::lock_guard lock(mutex_);
  saving_--;
  if (!fault.empty() && state_ == State::kSaving) drop(fault);
  if (saving_ == 0 && state_ == State::kFailed) discard();
}

void Checkpointer::save(uint64_t step, BlockId block, const std::byte* weights, const std::byte* moments) {
  if (!enter(step)) return;
  std::string fault;
  try {
    add(block, weights, moments);
  } catch (const Error& error) {
    fault = error.what();
  }
  leave(fault);
}

void Checkpointer::add(BlockId id, const std::byte* weights, const std::byte* moments) {
  const storage::BlockLayout& block = parts_.store.layout().block(id);
  const uint32_t weight_planes = parts_.planes.weight_planes;
  const storage::CheckpointWriter::PlaneData plane_data = [&](uint32_t plane) {
    return plane < weight_planes ? weights + block.planes[plane].offset
                                 : moments + block.planes[plane].offset - block.planes[weight_planes].offset;
  };
  math::parallel_tasks(writer_.piece_count(id),
                       [&](uint32_t piece) { writer_.add_pieces(id, piece, piece + 1, plane_data); });
}

std::optional<uint64_t> Checkpointer::unpublished() const {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kSaving && state_ != State::kPublishing) return std::nullopt;
  return step_;
}

void Checkpointer::committed(uint64_t step) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != State::kSaving || step_ != step) return;
    state_ = State::kPublishing;
  }
  publisher_ = std::thread([this] { publish(); });
}

void Checkpointer::publish() {
  try {
    finish(storage::save_missing(writer_, parts_.store, parts_.io, 1));
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex_);
    drop(error.what());
    discard();
  }
}

void Checkpointer::finish(uint64_t read_bytes) {
  const storage::CheckpointStats stats = writer_.publish();
  {
    const std::lock_guard lock(mutex_);
    state_ = State::kIdle;
    totals_.count++;
    totals_.content_bytes += stats.content_bytes;
    totals_.stored_bytes += stats.stored_bytes - stats.linked_bytes;
    totals_.read_bytes += read_bytes;
    totals_.compress_seconds += stats.compress_seconds;
    notes_.push_back(fmt::format("checkpoint of step {}: {} in {}", step_, format_size(stats.content_bytes),
                                 format_size(stats.stored_bytes)));
  }
  if (parts_.session.keep == 0) return;
  try {
    storage::keep_newest(parts_.session.run_dir, parts_.session.keep);
  } catch (const Error& error) {
    const std::lock_guard lock(mutex_);
    notes_.push_back(fmt::format("an old checkpoint stays: {}", error.what()));
  }
}

void Checkpointer::wait() {
  if (publisher_.joinable()) publisher_.join();
}

void Checkpointer::retake(uint64_t due) {
  const bool weights_only = parts_.session.checkpoint_weights_only;
  if (std::filesystem::exists(storage::checkpoint_directory(parts_.session.run_dir, due, weights_only)))
    return;
  step_ = parts_.store.step();
  storage::CheckpointTarget again = target(step_, true);
  if (std::filesystem::exists(again.directory)) return;
  try {
    writer_.begin(std::move(again));
  } catch (const Error& error) {
    return drop(error.what());
  }
  publish();
}

CheckpointTotals Checkpointer::totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

std::vector<std::string> Checkpointer::take_notes() {
  const std::lock_guard lock(mutex_);
  return std::exchange(notes_, {});
}

}  // namespace headrace::train
