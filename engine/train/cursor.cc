#include "engine/train/cursor.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "storage/error.h"
#include "storage/json.h"

namespace headrace::train {

std::string cursor_json(const Cursor& cursor) {
  std::string json = fmt::format(R"({{"step":{})", cursor.step);
  if (cursor.next_in_flight) json += fmt::format(R"(,"in_flight":{})", cursor.step + 1);
  if (cursor.checkpoint_due != 0) json += fmt::format(R"(,"checkpoint":{})", cursor.checkpoint_due);
  return json + "}";
}

Cursor parse_cursor(const std::string& json) {
  const auto parsed = parse_json<nlohmann::json>(json);
  if (!parsed.is_object() || !parsed.contains("step") || !parsed["step"].is_number_unsigned()) {
    throw Error(ErrorKind::kCorrupt, "the state kept with the run's step cannot be read",
                "restore the run from a checkpoint or a copy");
  }
  const auto due = parsed.find("checkpoint");
  return {parsed["step"].get<uint64_t>(), parsed.contains("in_flight"),
          due != parsed.end() && due->is_number_unsigned() ? due->get<uint64_t>() : 0};
}

std::string describe_resume(const Cursor& cursor, uint64_t commit_every) {
  std::string text = fmt::format("resuming at step {}", cursor.step);
  if (!cursor.next_in_flight) return text;
  if (commit_every == 1) return text + fmt::format("; step {} was in flight", cursor.step + 1);
  return text +
         fmt::format("; step {} or one of the next, not committed yet, was in flight", cursor.step + 1);
}

}  // namespace headrace::train
