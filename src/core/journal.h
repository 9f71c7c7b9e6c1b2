// Told of every change this node makes to a session, after it stands in the zone, so that the
// second tier can follow. Called with no lock held; must not call back into lifecycle.
#pragma once

#include "core/bytes.h"
#include "core/zone/table.h"

namespace sg {

class Journal {
  public:
    // The session is new: nothing is known of it anywhere. `record` is as encode_record wrote it.
    virtual void opened(const SessionView& view, ByteView record) noexcept { saved(view, record); }

    // The session is so now: changed, superseded, or to be written once more.
    virtual void saved(const SessionView& view, ByteView record) noexcept = 0;

    // The session is no more; nothing may bring it back until then.
    virtual void ended(const Token& token, Departure why, TimeMs until) noexcept = 0;

    // It would help to know what the store has under this: let the zone learn it.
    virtual void wanted(const Token&) noexcept {}

  protected:
    ~Journal() = default;
};

}  // namespace sg
