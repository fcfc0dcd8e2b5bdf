// What of a report becomes the stored profile of a directory (storage/drive_profile.h). Pure but for what
// describe_place() looks up.
#pragma once

#include <optional>
#include <string>

#include "storage/bench/report.h"
#include "storage/drive_profile.h"

namespace headrace::bench {

// Nothing, and why, where the report does not say how fast the drive can be for training: memory gave the
// results, requests were small, few or short, or only one direction was measured.
//
// The best of a direction is the highest rate; among those within 5% of it, the one with the most ordinary
// number of bytes in flight, for so little is noise.
std::optional<storage::DriveProfile> profile_of(const Report& report, const std::string& directory,
                                                std::string& why_not);

}  // namespace headrace::bench
