// What tensors take, in bytes, independent of what the allocator makes of it.

#include <atomic>
#include <cstdint>
#include <memory>

#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include "shim.h"

namespace {

// On CUDA the allocator counts by itself. On the CPU it reports to whoever profiles the thread.
struct Counter : c10::MemoryReportingInfoBase {
    std::atomic<int64_t> live{0}, peak{0};

    void reportMemoryUsage(void *, int64_t change, size_t, size_t, c10::Device device) override {
        if (!device.is_cpu()) return;
        int64_t now = live += change, before = peak;
        while (now > before && !peak.compare_exchange_weak(before, now)) {
        }
    }

    bool memoryProfilingEnabled() const override { return true; }
};

std::shared_ptr<Counter> counter() {
    static auto only = std::make_shared<Counter>();
    return only;
}

} // namespace

// From now on, what this thread takes is counted, and what autograd takes for it.
extern "C" int recyclable_count_memory(char *error, size_t error_size) {
    return reporting(error, error_size, [&] {
        c10::ThreadLocalDebugInfo::_push(c10::DebugInfoKind::PROFILER_STATE, counter());
    });
}

// The most bytes since this was last asked; `device` is -1 for the CPU, else the number of a CUDA device. Nothing here names
// CUDA's own libraries: the program links without them.
extern "C" int recyclable_peak_memory(int device, int64_t *bytes, char *error, size_t error_size) {
    return reporting(error, error_size, [&] {
        if (device < 0) {
            *bytes = counter()->peak.exchange(counter()->live);
            return;
        }
        auto *allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
        *bytes = allocator->getDeviceStats(device).allocated_bytes[0].peak; // 0: of all pools together
        allocator->resetPeakStats(device);
    });
}
