#include "storage/io_tuning.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/text.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB, kPage = 4096;
constexpr uint64_t kSolidTransfer = kMiB, kRotationalTransfer = 2 * kMiB;
// Below the least, what a request costs the processor weighs more than what the device gains; the kernel cuts
// larger ones at little cost.
constexpr uint64_t kLeastTransfer = 256 * kKiB;
// Stripes of a RAID and measured sizes count within these.
constexpr uint64_t kLeastOptimal = 64 * kKiB, kMostOptimal = 4 * kMiB;
constexpr uint64_t kLeastMeasured = 16 * kKiB, kMostMeasured = 16 * kMiB;
constexpr uint64_t kBytesInFlight = 16 * kMiB;
constexpr uint64_t kLeastDepth = 4, kMostDepth = 64, kMostMeasuredDepth = 256;

uint64_t pages(uint64_t bytes) { return bytes / kPage * kPage; }

}  // namespace

std::string IoTuning::description() const {
  return fmt::format("transfers of {}, {} in flight on a drive: {}", exact_size(transfer_bytes), depth, why);
}

void IoTuning::apply(IoOptions& options) const {
  options.transfer_bytes = transfer_bytes;
  options.depth = depth;
}

IoTuning tuning_of(const DriveProperties& drive) {
  IoTuning tuning;
  if (drive.name.empty()) {
    tuning.why = "the default, as the kernel names no device";
    return tuning;
  }
  std::vector<std::string> reasons;
  const bool rotates = drive.rotational.value_or(false);
  if (rotates) reasons.emplace_back("rotates");
  uint64_t transfer = rotates ? kRotationalTransfer : kSolidTransfer;
  if (drive.largest_request_bytes && *drive.largest_request_bytes < transfer) {
    transfer = std::max(pages(*drive.largest_request_bytes), kLeastTransfer);
    reasons.push_back(fmt::format("takes requests of at most {}", exact_size(*drive.largest_request_bytes)));
  }
  const uint64_t optimal = drive.optimal_request_bytes.value_or(0);
  if (optimal % kPage == 0 && optimal >= kLeastOptimal && optimal <= kMostOptimal) {
    transfer = std::max(transfer / optimal, uint64_t{1}) * optimal;
    reasons.push_back(fmt::format("prefers multiples of {}", exact_size(optimal)));
  }
  uint64_t depth = std::clamp(kBytesInFlight / transfer, kLeastDepth, kMostDepth);
  if (drive.requests) {
    const uint64_t largest = drive.largest_request_bytes.value_or(transfer);
    const uint64_t requests_each = (transfer + largest - 1) / largest;
    const uint64_t fitting = std::max<uint64_t>(*drive.requests / requests_each, 2);
    if (fitting < depth) {
      depth = fitting;
      reasons.push_back(fmt::format("queues {} requests", *drive.requests));
    }
  }
  tuning.transfer_bytes = transfer;
  tuning.depth = static_cast<uint32_t>(depth);
  tuning.why = reasons.empty() ? fmt::format("the default, which suits {}", drive.name)
                               : fmt::format("{} {}", drive.name, fmt::join(reasons, " and "));
  return tuning;
}

// A training reads and writes at the same time, with one size and depth for both: the larger of each, as more
// in flight than one direction needs costs it little but latency.
IoTuning tuning_of(const DriveProfile& profile, const std::string& name) {
  const uint64_t transfer = std::max(profile.read.transfer_bytes, profile.write.transfer_bytes);
  const uint32_t depth = std::max(profile.read.depth, profile.write.depth);
  IoTuning tuning;
  tuning.transfer_bytes = pages(std::clamp(transfer, kLeastMeasured, kMostMeasured));
  tuning.depth = static_cast<uint32_t>(std::clamp<uint64_t>(depth, 1, kMostMeasuredDepth));
  tuning.why = fmt::format("as measured on {} ({})", profile.date, name);
  return tuning;
}

TunedIo tune_io(std::span<const std::string> directories, const std::string& sysfs_root) {
  TunedIo tuned;
  std::vector<std::string> reasons;
  for (const std::string& directory : directories) {
    const FoundProfile found = find_drive_profile(directory);
    if (!found.warning.empty()) tuned.warnings.push_back(found.warning);
    const IoTuning one = found.profile ? tuning_of(*found.profile, printable(found.path))
                                       : tuning_of(drive_properties_of(directory, sysfs_root));
    if (reasons.empty()) {
      tuned.tuning = one;
    } else {
      tuned.tuning.transfer_bytes = std::min(tuned.tuning.transfer_bytes, one.transfer_bytes);
      tuned.tuning.depth = std::max(tuned.tuning.depth, one.depth);
    }
    if (std::find(reasons.begin(), reasons.end(), one.why) == reasons.end()) reasons.push_back(one.why);
  }
  tuned.tuning.why = fmt::format("{}", fmt::join(reasons, "; "));
  return tuned;
}

}  // namespace headrace::storage
