// The zones a realm had before its size was changed, as long as there are sessions in them: see
// core/handover.h. Each configuration has mappings of its own of their pages, made in the master
// before the fork, so that they outlive the zone's own configuration; whichever goes, the others
// keep theirs.
#pragma once

#include "nginx/ngx.h"

#include <cstddef>
#include <span>
#include <vector>

#include "core/handover.h"

namespace sg::ngx {

struct OldZone {
    std::span<std::byte> memory;  // our mapping
    Table table;
    std::vector<ngx_pid_t> users;  // processes that know no younger zone than this
    Drain drain;
};

class OldZones {
  public:
    OldZones() = default;
    OldZones(const OldZones&) = delete;
    OldZones& operator=(const OldZones&) = delete;
    ~OldZones();

    // In the master, at a reload. False: the system refuses a mapping.
    //
    // What the running configuration still has.
    bool inherit(const OldZones& before) noexcept;
    // The running configuration's own zone: its users are the processes there are now.
    bool add(std::span<std::byte> zone, std::span<std::byte> table) noexcept;

    bool is_full() const noexcept { return zones_.size() >= kMost; }
    TableStats stats() const noexcept;

    // In a worker.
    bool empty() const noexcept { return zones_.empty(); }
    std::span<OldZone> all() noexcept { return zones_; }
    std::span<const Table> tables() const noexcept { return tables_; }

    // Forgets what has retired. True: something has.
    bool drop_retired() noexcept;

  private:
    static constexpr std::size_t kMost = 16;

    bool map(std::span<std::byte> zone, std::span<std::byte> table,
             std::vector<ngx_pid_t> users) noexcept;

    std::vector<OldZone> zones_;  // oldest first
    std::vector<Table> tables_;   // the same, for core/
};

// Whether some process that works with this zone is left.
bool has_users(const OldZone& zone) noexcept;

// Gives the pages of a retired zone back to the system, although others map them still.
void give_back(const OldZone& zone) noexcept;

}  // namespace sg::ngx
