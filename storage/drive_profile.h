// What a directory's drive was measured to do: a small file that `headrace bench` leaves in the directory,
// and that training and planning look for beside the shards. docs/formats.md describes it.
//
// It is advice: whatever the file holds, training computes the same and stays within its limits. So one that
// is damaged, foreign or out of range is ignored with a warning, and it has no checksum: people may correct
// it. Threads: any. Failure: find never throws; write throws Error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace headrace::storage {

// The best that was seen in one direction, and the transfers that did it.
struct MeasuredRate {
  double bytes_per_second = 0;
  uint64_t transfer_bytes = 0;
  uint32_t depth = 0;         // transfers in flight
  double latency_p50_us = 0;  // of one transfer; 0: not measured
  double latency_p99_us = 0;  // likewise
};

// Reading and writing at the same time, likewise.
struct MeasuredMix {
  double read_bytes_per_second = 0, written_bytes_per_second = 0;
  uint64_t transfer_bytes = 0;
  uint32_t depth = 0;
};

struct DriveProfile {
  std::string date;         // UTC, "2026-11-23T23:30:00Z"
  std::string kernel;       // release
  std::string device;       // name of the block device; may be empty
  std::string file_system;  // "ext4"
  uint64_t file_system_bytes = 0;
  std::string io;       // the back end in words
  bool direct = false;  // O_DIRECT
  MeasuredRate read, write;
  std::optional<MeasuredMix> mix;
};

inline constexpr const char* kProfileName = ".headrace-profile.json";

std::string profile_json(const DriveProfile& profile);
// Nothing for anything that is not a profile of this version within the limits; `why` then says what is
// wrong.
std::optional<DriveProfile> parse_profile(std::string_view json, std::string& why);

// Replaces `directory`'s profile at once: a new file, synced and renamed into place. Throws Error (kFailed),
// as where the directory is read-only.
void write_drive_profile(const std::string& directory, const DriveProfile& profile);

struct FoundProfile {
  std::optional<DriveProfile> profile;
  std::string path;     // of the file
  std::string warning;  // a sentence, when a file was ignored
};
// The profile in `directory` or in the nearest of its parents on the same file system. The directory need not
// exist yet. Files of somebody else (neither this user, nor root, nor the owner of the directory that holds
// it) and of another file system than they were written for are ignored.
FoundProfile find_drive_profile(const std::string& directory);

// What a new profile says of the place: file system and its size, device, kernel, date.
DriveProfile describe_place(const std::string& directory);

}  // namespace headrace::storage
