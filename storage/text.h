// Small text helpers shared by the rooms: sizes as people write them, and the nearest known name for a
// mistyped one. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace headrace {

// "512MiB", "1.5 GiB", "2GB", "4096", "4096B": bytes. Units are powers of 1000 (kB, MB, GB, TB) or of 1024
// (KiB, MiB, GiB, TiB), in any case. Nothing for anything else: a sign, a fraction of a byte, an overflow.
std::optional<uint64_t> parse_size(std::string_view text);

// "149.3 MiB", "1.49 GB": three or four digits that a person compares. `format_size` uses powers of 1024.
std::string format_size(uint64_t bytes);
// The shortest text that parse_size() reads back exactly: "4MiB", "4096B".
std::string exact_size(uint64_t bytes);
// "124.4 M", "3.2 k", "17".
std::string format_count(double count);
// "4 h 05 min", "3 min 12 s", "8.4 s".
std::string format_duration(double seconds);

// Strictly decimal digits that fit; nothing otherwise.
std::optional<uint64_t> parse_count(std::string_view text);
// A finite decimal number, all of the text; nothing otherwise.
std::optional<double> parse_number(std::string_view text);

// The candidate with the smallest edit distance (Damerau's, adjacent transpositions count one; case is
// ignored), if it is near enough to be what was meant; empty otherwise.
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);
// "did you mean 'batch'?" where there is a near name, else "known: a, b, c". A sentence without full stop.
std::string suggestion(std::string_view name, std::span<const std::string> candidates);

// "a, b, c".
std::string joined(std::span<const std::string> names);

// The text with control characters and other bytes that a terminal could act on written as \xNN, cut to
// `limit` bytes: for showing input in messages.
std::string printable(std::string_view text, size_t limit = 200);

}  // namespace headrace
