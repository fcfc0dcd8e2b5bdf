#include "storage/io_tuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <map>

#include "tests/support/temporary_directory.h"

namespace headrace::storage {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB;

// A made-up sysfs with block devices in it.
class MadeUpSysfs {
 public:
  // `device`: "8:0"; `files`: below the device's directory, "queue/rotational" -> "0".
  void add(const std::string& device, const std::string& name,
           const std::map<std::string, std::string>& files) {
    const fs::path place = fs::path(root()) / "devices/pci0" / name;
    fs::create_directories(place / "queue");
    fs::create_directories(place / "device");
    fs::create_directories(fs::path(root()) / "dev/block");
    for (const auto& [file, value] : files) testing::write_file(place / file, value);
    fs::create_symlink("../../devices/pci0/" + name, fs::path(root()) / "dev/block" / device);
  }
  void add_partition(const std::string& device, const std::string& disk, const std::string& name) {
    const fs::path place = fs::path(root()) / "devices/pci0" / disk / name;
    fs::create_directories(place);
    testing::write_file(place / "partition", "1\n");
    fs::create_symlink("../../devices/pci0/" + disk + "/" + name, fs::path(root()) / "dev/block" / device);
  }
  const std::string& root() const { return directory_.path(); }
  DriveProperties properties(unsigned major_number, unsigned minor_number) const {
    return drive_properties(makedev(major_number, minor_number), root());
  }

 private:
  TemporaryDirectory directory_;
};

TEST(DrivePropertiesTest, AreReadFromSysfs) {
  MadeUpSysfs sysfs;
  sysfs.add("259:0", "nvme0n1",
            {{"queue/rotational", "0\n"},
             {"queue/max_sectors_kb", "128\n"},
             {"queue/optimal_io_size", "0\n"},
             {"queue/nr_requests", "1023\n"}});
  sysfs.add_partition("259:1", "nvme0n1", "nvme0n1p1");
  for (const unsigned part : {0u, 1u}) {
    const DriveProperties drive = sysfs.properties(259, part);
    EXPECT_EQ(drive.name, "nvme0n1");
    EXPECT_EQ(drive.largest_request_bytes, 128 * kKiB);
    EXPECT_EQ(drive.optimal_request_bytes, std::nullopt);
    EXPECT_EQ(drive.requests, 1023u);
    EXPECT_EQ(drive.rotational, false);
  }
}

TEST(DrivePropertiesTest, OfADeviceThatTheKernelDoesNotNameAreAbsent) {
  MadeUpSysfs sysfs;
  EXPECT_EQ(sysfs.properties(0, 45).name, "");
  EXPECT_EQ(drive_properties(makedev(259, 0), "/nowhere").name, "");
}

TEST(DrivePropertiesTest, ThatMakeNoSenseAreAbsent) {
  for (const char* nonsense : {"", "\n", "-1\n", "lots\n", "0x10\n", "1e9\n", "99999999999999999999999\n",
                               "18446744073709551615\n", "4 4\n", "1.5\n"}) {
    MadeUpSysfs sysfs;
    sysfs.add("8:0", "sda",
              {{"queue/rotational", nonsense},
               {"queue/max_sectors_kb", nonsense},
               {"queue/optimal_io_size", nonsense},
               {"queue/nr_requests", nonsense},
               {"device/queue_depth", nonsense}});
    const DriveProperties drive = sysfs.properties(8, 0);
    EXPECT_EQ(drive.name, "sda");
    EXPECT_FALSE(drive.largest_request_bytes || drive.optimal_request_bytes || drive.requests ||
                 drive.rotational)
        << nonsense;
    EXPECT_EQ(tuning_of(drive).transfer_bytes, kMiB);
    EXPECT_EQ(tuning_of(drive).depth, 16u);
  }
}

TEST(DrivePropertiesTest, OfAVirtualDriveDoNotSayWhetherItRotates) {
  MadeUpSysfs sysfs;
  sysfs.add("254:0", "vda", {{"queue/rotational", "1\n"}});
  EXPECT_EQ(sysfs.properties(254, 0).rotational, std::nullopt);
}

TEST(DrivePropertiesTest, OfARealDirectoryAreThoseOfItsDevice) {
  const TemporaryDirectory directory;
  struct stat status {};
  ASSERT_EQ(::stat(directory.path().c_str(), &status), 0);
  const DriveProperties drive = drive_properties_of(directory / "not/there/yet");
  EXPECT_EQ(drive.name.empty(), drive_properties(status.st_dev).name.empty());
  EXPECT_NE(file_system_name(directory.path()), "");
  if (!drive.name.empty()) {
    EXPECT_TRUE(fs::exists("/sys/block/" + drive.name));
  }
  EXPECT_EQ(file_system_name("/dev/shm"), "tmpfs");
  EXPECT_EQ(drive_properties_of("/proc/self").name, "");
}

TEST(IoTuningTest, TakesTheDefaultWhereNothingSpeaksAgainstIt) {
  const IoTuning tuning = tuning_of(DriveProperties{"nvme0n1", 2 * kMiB, std::nullopt, 1023, false});
  EXPECT_EQ(tuning.transfer_bytes, kMiB);
  EXPECT_EQ(tuning.depth, 16u);
  EXPECT_EQ(tuning.description(),
            "transfers of 1MiB, 16 in flight on a drive: the default, which suits nvme0n1");
}

TEST(IoTuningTest, TakesSmallerTransfersAndMoreOfThemWhereTheDeviceCutsLargeOnes) {
  const IoTuning tuning = tuning_of(DriveProperties{"nvme0n1", 512 * kKiB, std::nullopt, 1023, false});
  EXPECT_EQ(tuning.transfer_bytes, 512 * kKiB);
  EXPECT_EQ(tuning.depth, 32u);
  EXPECT_EQ(tuning.why, "nvme0n1 takes requests of at most 512KiB");
}

TEST(IoTuningTest, LeavesVerySmallRequestsToTheKernel) {
  const IoTuning tuning = tuning_of(DriveProperties{"sda", 4 * kKiB, std::nullopt, std::nullopt, false});
  EXPECT_EQ(tuning.transfer_bytes, 256 * kKiB);
}

TEST(IoTuningTest, KeepsWithinTheDevicesQueue) {
  // Each transfer becomes two requests of the 31 that a SATA drive queues.
  const IoTuning tuning = tuning_of(DriveProperties{"sda", 128 * kKiB, std::nullopt, 31, false});
  EXPECT_EQ(tuning.transfer_bytes, 256 * kKiB);
  EXPECT_EQ(tuning.depth, 15u);
  EXPECT_THAT(tuning.why, HasSubstr("queues 31 requests"));
  EXPECT_EQ(tuning_of(DriveProperties{"sda", kMiB, std::nullopt, 1, false}).depth, 2u);
}

TEST(IoTuningTest, TakesFewLargeTransfersWhereThePlattersTurn) {
  const IoTuning tuning = tuning_of(DriveProperties{"sda", 4 * kMiB, std::nullopt, 256, true});
  EXPECT_EQ(tuning.transfer_bytes, 2 * kMiB);
  EXPECT_EQ(tuning.depth, 8u);
  EXPECT_EQ(tuning.why, "sda rotates");
}

TEST(IoTuningTest, TakesWholeStripesOfARaid) {
  EXPECT_EQ(tuning_of(DriveProperties{"md0", 4 * kMiB, 384 * kKiB, 256, false}).transfer_bytes, 768 * kKiB);
  EXPECT_EQ(tuning_of(DriveProperties{"md0", 4 * kMiB, 3 * kMiB, 256, false}).transfer_bytes, 3 * kMiB);
  // Neither too large a stripe, nor one that does not fit our pages, nor one that every size is a multiple
  // of.
  for (const uint64_t odd : {64 * kMiB, kMiB - 512, 4 * kKiB})
    EXPECT_EQ(tuning_of(DriveProperties{"md0", 4 * kMiB, odd, 256, false}).transfer_bytes, kMiB);
}

TEST(IoTuningTest, IsAlwaysWhatBlockIoTakes) {
  for (uint64_t kib = 1; kib <= kMiB; kib = kib * 3 + 1)
    for (const uint64_t optimal : {uint64_t{0}, 4096 * kib, kib * kKiB + 512})
      for (const uint64_t requests : {1, 2, 31, 1023}) {
        IoOptions options;
        tuning_of(DriveProperties{"sdx", kib * kKiB, optimal, requests, kib % 2 == 0}).apply(options);
        options.backend = IoBackend::kThreads;
        EXPECT_NO_THROW(make_block_io(options));
      }
}

class TunedDirectoryTest : public ::testing::Test {
 protected:
  DriveProfile profile() const {
    DriveProfile profile = describe_place(directory_.path());
    profile.date = "2026-11-23T12:00:00Z";
    profile.read = {2.5e9, 512 * kKiB, 32, 0, 0};
    profile.write = {1e9, 2 * kMiB, 4, 0, 0};
    return profile;
  }
  TunedIo tuned(std::vector<std::string> directories) const { return tune_io(directories, "/nowhere"); }
  TemporaryDirectory directory_;
};

TEST_F(TunedDirectoryTest, GoesByWhatWasMeasured) {
  write_drive_profile(directory_.path(), profile());
  const TunedIo io = tuned({directory_ / "run"});
  EXPECT_EQ(io.tuning.transfer_bytes, 2 * kMiB);
  EXPECT_EQ(io.tuning.depth, 32u);
  EXPECT_THAT(io.tuning.why, HasSubstr("as measured on 2026-11-23T12:00:00Z"));
  EXPECT_TRUE(io.warnings.empty());
}

TEST_F(TunedDirectoryTest, BoundsWhatAProfileAsksFor) {
  DriveProfile extreme = profile();
  extreme.read = {1e9, 4096, 4096, 0, 0};
  extreme.write = {1e9, 4096, 4096, 0, 0};
  EXPECT_EQ(tuning_of(extreme, "here").transfer_bytes, 16 * kKiB);
  EXPECT_EQ(tuning_of(extreme, "here").depth, 256u);
  extreme.write.transfer_bytes = 1 << 30;
  EXPECT_EQ(tuning_of(extreme, "here").transfer_bytes, 16 * kMiB);
}

TEST_F(TunedDirectoryTest, SaysWhichProfileItIgnores) {
  testing::write_file(directory_ / kProfileName, "{}");
  const TunedIo io = tuned({directory_ / "run"});
  EXPECT_EQ(io.tuning.transfer_bytes, kMiB);
  EXPECT_THAT(io.warnings, ::testing::ElementsAre(HasSubstr("is ignored: it has no 'format'")));
}

TEST_F(TunedDirectoryTest, SuitsAllDrivesOfARun) {
  fs::create_directories(directory_ / "a");
  fs::create_directories(directory_ / "b");
  write_drive_profile(directory_ / "a", profile());
  const TunedIo io = tuned({directory_ / "a", directory_ / "b"});
  EXPECT_EQ(io.tuning.transfer_bytes, kMiB);
  EXPECT_EQ(io.tuning.depth, 32u);
  EXPECT_THAT(io.tuning.why, HasSubstr("as measured"));
  EXPECT_THAT(io.tuning.why, HasSubstr("the default, as the kernel names no device"));
}

}  // namespace
}  // namespace headrace::storage
