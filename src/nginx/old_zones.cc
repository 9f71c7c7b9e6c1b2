#include "nginx/old_zones.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace sg::ngx {
namespace {

bool contains(const std::vector<ngx_pid_t>& pids, ngx_pid_t pid) noexcept {
    return std::find(pids.begin(), pids.end(), pid) != pids.end();
}

// A child of this master that serves requests or cares for caches: not a new binary's master.
bool is_worker(const ngx_process_t& process) noexcept {
    return process.pid > 0 && process.exited == 0 && process.detached == 0;
}

std::span<const ngx_process_t> processes() noexcept {
    return {ngx_processes, static_cast<std::size_t>(std::max<ngx_int_t>(ngx_last_process, 0))};
}

// Of these, the ones that are still on their way out. A number that is used again belongs to a
// process that nobody has told to leave yet.
std::vector<ngx_pid_t> still_leaving(const std::vector<ngx_pid_t>& pids) noexcept {
    std::vector<ngx_pid_t> left;
    for (const ngx_process_t& process : processes()) {
        if (is_worker(process) && process.exiting != 0 && contains(pids, process.pid)) {
            left.push_back(process.pid);
        }
    }
    return left;
}

// The same pages at a second address.
std::byte* map_again(std::span<std::byte> memory) noexcept {
#ifdef MREMAP_MAYMOVE
    void* const place = mremap(memory.data(), 0, memory.size(), MREMAP_MAYMOVE);
    return place != MAP_FAILED ? static_cast<std::byte*>(place) : nullptr;
#else
    (void)memory;
    return nullptr;
#endif
}

}  // namespace

OldZones::~OldZones() {
    for (const OldZone& zone : zones_) {
        munmap(zone.memory.data(), zone.memory.size());
    }
}

bool OldZones::map(std::span<std::byte> zone, std::span<std::byte> table,
                   std::vector<ngx_pid_t> users) noexcept {
    std::byte* const place = map_again(zone);
    if (place == nullptr) {
        return false;
    }
    const std::span<std::byte> mapped{place, zone.size()};
    const auto attached = Table::attach(
        mapped.subspan(static_cast<std::size_t>(table.data() - zone.data())).first(table.size()));
    if (!attached) {
        munmap(place, zone.size());
        return false;
    }
    zones_.push_back(
        {.memory = mapped, .table = *attached, .users = std::move(users), .drain = {}});
    tables_.push_back(*attached);
    return true;
}

bool OldZones::inherit(const OldZones& before) noexcept {
    return std::all_of(before.zones_.begin(), before.zones_.end(), [this](const OldZone& zone) {
        return zone.table.is_retired() ||
               map(zone.memory, zone.table.memory(), still_leaving(zone.users));
    });
}

bool OldZones::add(std::span<std::byte> zone, std::span<std::byte> table) noexcept {
    std::vector<ngx_pid_t> users;
    for (const ngx_process_t& process : processes()) {
        const bool knows_older_only = std::any_of(
            zones_.begin(), zones_.end(),
            [&process](const OldZone& older) { return contains(older.users, process.pid); });
        if (is_worker(process) && !knows_older_only) {
            users.push_back(process.pid);
        }
    }
    return map(zone, table, std::move(users));
}

TableStats OldZones::stats() const noexcept {
    TableStats all;
    for (const Table& table : tables_) {
        const TableStats stats = table.is_retired() ? TableStats{} : table.stats();
        all.live += stats.live;
        all.cells_used += stats.cells_used;
    }
    return all;
}

// Asked once for each: another worker may retire one meanwhile.
bool OldZones::drop_retired() noexcept {
    const std::size_t before = zones_.size();
    for (std::size_t i = before; i-- > 0;) {
        if (zones_[i].table.is_retired()) {
            munmap(zones_[i].memory.data(), zones_[i].memory.size());
            zones_.erase(zones_.begin() + static_cast<std::ptrdiff_t>(i));
            tables_.erase(tables_.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
    return zones_.size() != before;
}

// A process of another group has got the number of one that is gone.
bool has_users(const OldZone& zone) noexcept {
    const pid_t group = getpgrp();
    return std::any_of(zone.users.begin(), zone.users.end(),
                       [group](ngx_pid_t pid) { return getpgid(pid) == group; });
}

void give_back(const OldZone& zone) noexcept {
#ifdef MADV_REMOVE
    const auto page = static_cast<std::uintptr_t>(ngx_pagesize);
    for (std::size_t i = 0; i < zone.table.shard_count(); ++i) {
        const std::span<std::byte> part = zone.table.contents(i);
        const auto start = reinterpret_cast<std::uintptr_t>(part.data());
        const std::uintptr_t first = (start + page - 1) / page * page;
        const std::uintptr_t end = (start + part.size()) / page * page;
        if (first < end) {
            // Where the system cannot, the pages stay until the next reload.
            (void)madvise(part.data() + (first - start), end - first, MADV_REMOVE);
        }
    }
#else
    (void)zone;
#endif
}

}  // namespace sg::ngx
