// A real file system that is full: a small tmpfs in a mount namespace of a process of its own.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "tests/transfer/tiers/nvme/nvme_fixture.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kFileSystemBytes = 2u << 20;

// Whether `folder` is a file system of its own now, for this process alone.
bool mount_small(const std::string& folder) {
  const std::string user = std::to_string(getuid()), group = std::to_string(getgid());
  if (unshare(CLONE_NEWNS) != 0) {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
    std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
  }
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  const std::string size = "size=" + std::to_string(kFileSystemBytes);
  return mount("tmpfs", folder.c_str(), "tmpfs", 0, size.c_str()) == 0;
}

// Writes until there is no room.
void fill(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT, 0600));
  const std::vector<char> zeros(4096);
  while (::write(fd.get(), zeros.data(), zeros.size()) > 0) {
  }
  EXPECT_EQ(errno, ENOSPC);
}

class NvmeFull : public testing::NvmeTest {
 protected:
  void a_full_file_system() {
    ASSERT_TRUE(mount_small(folder_.file(""))) << std::strerror(errno);
    auto tier = try_open(config(1000));
    EXPECT_EQ(tier.status().code(), Code::kResourceExhausted) << tier.status().to_string();
    EXPECT_EQ(tier.status().native(), ENOSPC);

    open(config());
    ASSERT_TRUE(store(1).ok());
    // What was preallocated is taken away, as a thin volume that is overcommitted does.
    const UniqueFd fd(::open(folder_.file("device").c_str(), O_RDWR));
    const nvme::SlabLayout layout{kSlotBytes, 8};
    ASSERT_EQ(fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, layout.data_offset(1),
                        7 * kSlotBytes),
              0);
    fill(folder_.file("filler"));
    const Status status = store(2);
    EXPECT_EQ(status.native(), ENOSPC) << status.to_string();
    EXPECT_THAT(tier_->report().trouble, HasSubstr("No space left on device"));
    EXPECT_EQ(reads_back(1), "");
    std::filesystem::remove(folder_.file("filler"));
    EXPECT_TRUE(store(3).ok());
    EXPECT_EQ(reads_back(3), "");
    EXPECT_EQ(tier_->report().trouble, "");
    close();
  }
};

TEST_F(NvmeFull, ARealFileSystemThatIsFull) {
  EXPECT_EXIT(
      {
        a_full_file_system();
        _exit(HasFailure() ? 1 : 0);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace baton
