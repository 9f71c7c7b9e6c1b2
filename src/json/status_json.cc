#include "json/status_json.h"

#include <exception>
#include <nlohmann/json.hpp>
#include <string>

namespace sg {
namespace {

using Json = nlohmann::ordered_json;

Json counts(std::span<const NamedCount> all) {
    Json json = Json::object();
    for (const NamedCount& each : all) {
        json[std::string(each.name)] = each.count;
    }
    return json;
}

Json times(const TimesStatus& status) {
    Json ms = Json::object();
    for (std::size_t i = 0; i < status.buckets.size(); ++i) {
        const bool bounded = i < status.bounds.size();
        ms[bounded ? std::to_string(status.bounds[i]) : "more"] = status.buckets[i];
    }
    Json json;
    json["batches"] = status.batches;
    json["operations"] = status.operations;
    json["microseconds"] = status.microseconds;
    json["ms"] = std::move(ms);
    return json;
}

Json server(const ServerStatus& status) {
    Json json;
    json["host"] = std::string(status.host);
    json["port"] = status.port;
    json["breaker"] = std::string(status.breaker);
    return json;
}

Json store(const std::optional<StoreStatus>& status) {
    if (!status) {
        return nullptr;
    }
    Json json;
    json["kind"] = std::string(status->kind);
    if (status->servers.empty()) {
        json["breaker"] = std::string(status->breaker);
    } else {
        Json servers = Json::array();
        for (const ServerStatus& each : status->servers) {
            servers.push_back(server(each));
        }
        json["servers"] = std::move(servers);
    }
    json["waiting"] = status->waiting;
    json["retrying"] = status->retrying;
    json["faults"] = counts(status->faults);
    json["feed_lag_ms"] = status->feed_lag_ms ? Json(*status->feed_lag_ms) : Json(nullptr);
    json["look_ups"] = times(status->look_ups);
    json["writes"] = times(status->writes);
    return json;
}

Json realm(const RealmStatus& status) {
    Json zone;
    zone["bytes"] = status.zone_bytes;
    zone["sessions"] = status.sessions;
    zone["cells_used"] = status.cells_used;
    zone["cells_total"] = status.cells_total;
    zone["repairs"] = status.repairs;
    Json json;
    json["name"] = std::string(status.name);
    json["zone"] = std::move(zone);
    json["long_lived"] = status.long_lived;
    json["events"] = counts(status.events);
    json["store"] = store(status.store);
    return json;
}

}  // namespace

std::size_t write_status_json(std::span<const RealmStatus> realms, std::span<char> out) noexcept {
    try {
        Json all = Json::array();
        for (const RealmStatus& each : realms) {
            all.push_back(realm(each));
        }
        Json json;
        json["realms"] = std::move(all);
        const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
        return text.size() <= out.size() ? text.copy(out.data(), text.size()) : 0;
    } catch (const std::exception&) {
        return 0;
    }
}

}  // namespace sg
