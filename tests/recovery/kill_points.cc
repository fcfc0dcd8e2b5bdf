#include "tests/recovery/kill_points.h"

namespace headrace::testing {
namespace {

const char* verb_of(const SystemCall& call) {
  switch (call.kind) {
    case CallKind::kWrite:
      return call.durable ? "write the meta page" : "write";
    case CallKind::kSync:
      return "sync";
    case CallKind::kTruncate:
      return "set the size";
    case CallKind::kCreate:
      return "create";
    case CallKind::kRename:
      return "rename";
    case CallKind::kLink:
      return "link";
    case CallKind::kRemove:
      return "remove";
    case CallKind::kMakeDirectory:
      return "make";
  }
  return "";
}

}  // namespace

std::span<const KillPoint> kill_points() {
  static constexpr KillPoint kPoints[] = {
      {"RUN: make", "creation"},
      {"creating.json.new: create", "creation"},
      {"creating.json.new: write", "creation"},
      {"creating.json.new: sync", "creation"},
      {"creating.json.new: rename", "creation"},
      {"creating.json.new: remove", "creation"},
      {"shards: make", "creation"},
      {"shards/000: make", "creation"},
      {"shards: sync", "creation"},
      {"shards/000: sync", "creation"},
      {"shards/000/data.mdb: create", "creation"},
      {"shards/000/data.mdb-lock: create", "creation"},
      {"shards/000/data.mdb-lock: set the size", "creation"},
      {"shards/000/data.mdb-lock: remove", "creation"},
      {"shards/000/data.mdb: set the size", "creation"},
      {"catalog.new: make", "creation"},
      {"catalog.new/data.mdb: create", "creation"},
      {"catalog.new/lock.mdb: create", "creation"},
      {"catalog.new/lock.mdb: set the size", "creation"},
      {"catalog.new/data.mdb: write", "creation"},
      {"catalog.new/data.mdb: sync", "creation"},
      {"catalog.new/data.mdb: write the meta page", "creation"},
      {"catalog.new: sync", "creation"},
      {"catalog.new: rename", "creation"},
      {"RUN: sync", "creation"},
      {"creating.json: remove", "creation"},
      {"config.toml.new: create", "creation"},
      {"config.toml.new: write", "creation"},
      {"config.toml.new: sync", "creation"},
      {"config.toml.new: rename", "creation"},
      {"metrics.jsonl: create", "start"},
      {"shards/000/data.mdb: write", "commit"},
      {"shards/000/data.mdb: sync", "commit"},
      {"metrics.jsonl: sync", "commit"},
      {"catalog/data.mdb: write", "commit"},
      {"catalog/data.mdb: sync", "commit"},
      {"catalog/data.mdb: write the meta page", "commit"},
      {"metrics.jsonl: write", "commit"},
      {"checkpoints: make", "checkpoint"},
      {"checkpoints/STEP.unfinished: make", "checkpoint"},
      {"checkpoints/STEP.unfinished/pack-00000: create", "checkpoint"},
      {"checkpoints/STEP.unfinished/pack-00000: write", "checkpoint"},
      {"checkpoints/STEP.unfinished/pack-00000: set the size", "checkpoint"},
      {"checkpoints/STEP.unfinished/pack-00000: sync", "checkpoint"},
      {"checkpoints/STEP.unfinished/manifest.json: create", "checkpoint"},
      {"checkpoints/STEP.unfinished/manifest.json: write", "checkpoint"},
      {"checkpoints/STEP.unfinished/manifest.json: sync", "checkpoint"},
      {"checkpoints/STEP.unfinished: sync", "checkpoint"},
      {"checkpoints/STEP.unfinished: rename", "checkpoint"},
      {"checkpoints: sync", "checkpoint"},
      {"checkpoints/STEP: rename", "checkpoint"},
      {"checkpoints/STEP.removed/pack-00000: remove", "checkpoint"},
      {"checkpoints/STEP.removed/manifest.json: remove", "checkpoint"},
      {"checkpoints/STEP.removed: remove", "checkpoint"},
  };
  return kPoints;
}

std::string name_of(const SystemCall& call) {
  const size_t slash = call.path.find('/');
  std::string in_run = slash == std::string::npos ? "" : call.path.substr(slash + 1);
  static const std::string kStep = "step-000000";
  if (const size_t step = in_run.find("step-"); step != std::string::npos)
    in_run.replace(step, kStep.size(), "STEP");
  return (in_run.empty() ? "RUN" : in_run) + ": " + verb_of(call);
}

}  // namespace headrace::testing
