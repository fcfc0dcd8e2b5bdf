#include "storage/drive_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "tests/support/child_process.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::storage {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

DriveProfile profile_of(const std::string& directory) {
  DriveProfile profile = describe_place(directory);
  profile.io = "io_uring, registered buffers";
  profile.direct = true;
  profile.read = {2.5e9, 1 << 20, 32, 410.5, 1200};
  profile.write = {1.25e9, 512 << 10, 8, 800, 2400.25};
  profile.mix = {1.5e9, 0.5e9, 256 << 10, 24};
  return profile;
}

class DriveProfileTest : public ::testing::Test {
 protected:
  std::string text() const { return testing::read_file(path()); }
  std::string path() const { return directory_ / kProfileName; }
  void write_text(const std::string& text) { testing::write_file(path(), text); }
  std::string replaced(const std::string& from, const std::string& to) const {
    std::string result = profile_json(profile_of(directory_.path()));
    const size_t at = result.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return result.replace(at, from.size(), to);
  }
  // What is said of the file, which must be ignored.
  std::string warning() const {
    const FoundProfile found = find_drive_profile(directory_.path());
    EXPECT_FALSE(found.profile.has_value());
    EXPECT_EQ(found.warning.find('\n'), std::string::npos);
    return found.warning;
  }

  TemporaryDirectory directory_;
};

TEST_F(DriveProfileTest, IsReadBackAsItWasWritten) {
  const DriveProfile written = profile_of(directory_.path());
  write_drive_profile(directory_.path(), written);
  const FoundProfile found = find_drive_profile(directory_.path());
  ASSERT_TRUE(found.profile.has_value()) << found.warning;
  EXPECT_EQ(found.warning, "");
  EXPECT_EQ(profile_json(*found.profile), profile_json(written));
  EXPECT_EQ(found.profile->date.size(), 20u);
  EXPECT_EQ(found.profile->mix->depth, 24u);
}

TEST_F(DriveProfileTest, IsFoundFromDirectoriesBelowAndFromOnesStillToBeMade) {
  write_drive_profile(directory_.path(), profile_of(directory_.path()));
  fs::create_directories(directory_ / "run/shards");
  EXPECT_TRUE(find_drive_profile(directory_ / "run/shards").profile);
  EXPECT_TRUE(find_drive_profile(directory_ / "other/shards/000").profile);
}

TEST_F(DriveProfileTest, OfTheNearestDirectoryCounts) {
  write_drive_profile(directory_.path(), profile_of(directory_.path()));
  fs::create_directories(directory_ / "near/run");
  DriveProfile near = profile_of(directory_.path());
  near.read.depth = 77;
  write_drive_profile(directory_ / "near", near);
  EXPECT_EQ(find_drive_profile(directory_ / "near/run").profile->read.depth, 77u);
}

TEST_F(DriveProfileTest, OfAnotherFileSystemDoesNotCount) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no /dev/shm";
  std::string other = "/dev/shm/headrace-test-XXXXXX";
  ASSERT_NE(::mkdtemp(other.data()), nullptr);
  write_drive_profile(other, profile_of(directory_.path()));  // copied there, as it were
  const FoundProfile found = find_drive_profile(other);
  fs::remove_all(other);
  EXPECT_FALSE(found.profile);
  EXPECT_THAT(found.warning, HasSubstr("it was measured on another file system"));
}

TEST_F(DriveProfileTest, IsNotLookedForBeyondTheFileSystem) {
  write_drive_profile(directory_.path(), profile_of(directory_.path()));
  const std::string other = directory_ / "other";
  fs::create_directory(other);
  ASSERT_TRUE(find_drive_profile(other).profile);
  if (::mount("tmpfs", other.c_str(), "tmpfs", 0, "size=1m") != 0) GTEST_SKIP() << "mounting is refused here";
  const FoundProfile found = find_drive_profile(other);
  ::umount(other.c_str());
  EXPECT_FALSE(found.profile);
  EXPECT_EQ(found.warning, "");
}

TEST_F(DriveProfileTest, ThatIsDamagedIsIgnoredWithOneLine) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "it is no JSON object"},
      {"[1, 2]", "it is no JSON object"},
      {"{", "it is no JSON object"},
      {std::string(3000, '['), "it is no JSON object"},
      {std::string("{\"format\": \"\xff\"}"), "it is no JSON object"},
      {"{}", "it has no 'format'"},
      {replaced("headrace drive profile", "fio"), "it is of another format"},
      {replaced("\"version\": 1", "\"version\": 2"), "it has version 2, and this program reads 1"},
      {replaced("\"version\": 1", "\"version\": -1"), "'version' is no whole number"},
      {replaced("2500000000.0", "1e400"), "it is no JSON object"},
      {replaced("2500000000.0", "-1"), "'bytes_per_second' is no number"},
      {replaced("2500000000.0", "\"fast\""), "'bytes_per_second' is no number"},
      {replaced("1048576", "1048577"), "'transfer_bytes' is no multiple of 4096"},
      {replaced("1048576", "0"), "'transfer_bytes' is no whole number"},
      {replaced("1048576", "18446744073709551616"), "'transfer_bytes' is no whole number"},
      {replaced("\"depth\": 32", "\"depth\": 100000"), "'depth' is no whole number from 1 to 4096"},
      {replaced("\"depth\": 32", "\"depth\": 1.5"), "'depth' is no whole number"},
      {replaced("\"direct\": true", "\"direct\": 1"), "'direct' is neither true nor false"},
      {replaced("\"kernel\": \"", "\"kernel\": \"" + std::string(300, 'x')),
       "'kernel' is no plain text of at most"},
      {replaced("io_uring, ", "io_uring, \\u001b[31m"), "'io' is no plain text"},
      {replaced("\"write\"", "\"wrote\""), "it has no 'write'"},
  };
  for (const auto& [text, why] : cases) {
    write_text(text);
    EXPECT_THAT(warning(), HasSubstr(why)) << text.substr(0, 400);
  }
}

TEST_F(DriveProfileTest, ThatIsNoSmallFileOfTheUsersIsIgnored) {
  write_text(std::string(100000, ' '));
  EXPECT_THAT(warning(), HasSubstr("has 100000 bytes"));
  fs::remove(path());
  fs::create_directory(path());
  EXPECT_THAT(warning(), HasSubstr("no regular file"));
  fs::remove(path());
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  EXPECT_THAT(warning(), HasSubstr("no regular file"));
  fs::remove(path());
  fs::create_symlink("/etc/passwd", path());
  EXPECT_THAT(warning(), HasSubstr("symbolic link"));
}

TEST_F(DriveProfileTest, OfSomebodyElseIsIgnored) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  write_drive_profile(directory_.path(), profile_of(directory_.path()));
  ASSERT_EQ(::chown(path().c_str(), 12345, 12345), 0);
  EXPECT_THAT(warning(), HasSubstr("belongs to somebody else"));
  ASSERT_EQ(::chown(directory_.path().c_str(), 12345, 12345), 0);  // the drive's owner measured it
  EXPECT_TRUE(find_drive_profile(directory_.path()).profile);
}

TEST_F(DriveProfileTest, DamagedAtRandomHarmsNobody) {
  const std::string whole = profile_json(profile_of(directory_.path()));
  std::mt19937 random(20261123);
  for (int i = 0; i < 3000; i++) {
    std::string damaged = whole.substr(0, random() % 8 == 0 ? random() % whole.size() : whole.size());
    for (uint32_t changes = 1 + random() % 4; changes > 0 && !damaged.empty(); changes--)
      damaged[random() % damaged.size()] = char(random());
    std::string why;
    const auto profile = parse_profile(damaged, why);
    if (!profile) {
      EXPECT_NE(why, "");
      continue;
    }
    EXPECT_GE(profile->read.depth, 1u);
    EXPECT_LE(profile->read.depth, 4096u);
    EXPECT_EQ(profile->write.transfer_bytes % 4096, 0u);
    EXPECT_GE(profile->write.bytes_per_second, 1e3);
  }
}

TEST_F(DriveProfileTest, CannotBeWrittenWhereTheUserMayNot) {
  const testing::ChildResult child = testing::run_in_child([&]() -> std::string {
    ::chmod(directory_.path().c_str(), 0555);
    if (::geteuid() == 0 && ::seteuid(12345) != 0) return "cannot change the user";
    write_drive_profile(directory_.path(), profile_of(directory_.path()));
    return "written";
  });
  EXPECT_THAT(child.output, HasSubstr("Permission denied"));
  EXPECT_TRUE(fs::is_empty(directory_.path()));
}

TEST_F(DriveProfileTest, ReplacesTheOneBefore) {
  write_text("rubbish");
  testing::write_file(path() + ".new", "left by a process that was killed");
  write_drive_profile(directory_.path(), profile_of(directory_.path()));
  EXPECT_TRUE(find_drive_profile(directory_.path()).profile);
  EXPECT_FALSE(fs::exists(path() + ".new"));
}

}  // namespace
}  // namespace headrace::storage
