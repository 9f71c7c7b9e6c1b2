#include "nginx/key_file.h"

#include <openssl/crypto.h>

#include "nginx/conf.h"
#include "nginx/str.h"

namespace sg::ngx {
namespace {

constexpr std::size_t kMaxKeyFileBytes = 16 * 1024;

ngx_int_t check_opened(ngx_conf_t* cf, const ngx_str_t& path, ngx_fd_t fd) noexcept {
    ngx_file_info_t info;
    if (ngx_fd_info(fd, &info) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, "fstat() of key_file \"%V\" failed",
                           &path);
        return NGX_ERROR;
    }
    if (!ngx_is_file(&info)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "key_file \"%V\" is not a regular file", &path);
        return NGX_ERROR;
    }
    const ngx_uint_t mode = info.st_mode & 0777;
    if ((mode & 077) != 0) {
        // nginx's formatting has no octal.
        const std::array<char, 4> octal{static_cast<char>('0' + (mode >> 6)),
                                        static_cast<char>('0' + (mode >> 3 & 7)),
                                        static_cast<char>('0' + (mode & 7)), '\0'};
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "key_file \"%V\" has mode 0%s: it must be accessible by its owner only "
                           "(chmod 600)",
                           &path, octal.data());
        return NGX_ERROR;
    }
    return NGX_OK;
}

ngx_int_t parse_contents(ngx_conf_t* cf, const ngx_str_t& path, std::string_view text,
                         RealmConf& realm) noexcept {
    KeyFileError error;
    if (parse_key_file(text, realm.key_file, error)) {
        return NGX_OK;
    }
    if (error.line == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "key_file \"%V\": %s", &path, error.what);
    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "key_file \"%V\", line %uz: %s", &path, error.line,
                           error.what);
    }
    return NGX_ERROR;
}

ngx_int_t read_opened(ngx_conf_t* cf, const ngx_str_t& path, ngx_fd_t fd,
                      RealmConf& realm) noexcept {
    if (check_opened(cf, path, fd) != NGX_OK) {
        return NGX_ERROR;
    }
    std::array<char, kMaxKeyFileBytes + 1> text;
    const ssize_t size = ngx_read_fd(fd, text.data(), text.size());
    ngx_int_t rc = NGX_ERROR;
    if (size < 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, "reading key_file \"%V\" failed", &path);
    } else if (static_cast<std::size_t>(size) > kMaxKeyFileBytes) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "key_file \"%V\" is longer than 16k", &path);
    } else {
        rc = parse_contents(cf, path, {text.data(), static_cast<std::size_t>(size)}, realm);
    }
    OPENSSL_cleanse(text.data(), text.size());
    return rc;
}

}  // namespace

ngx_int_t read_key_file(ngx_conf_t* cf, ngx_str_t path, RealmConf& realm) noexcept {
    if (ngx_conf_full_name(cf->cycle, &path, 1) != NGX_OK) {
        return NGX_ERROR;
    }
    // Not blocking: a pipe would keep nginx -t waiting for ever.
    const ngx_fd_t fd =
        ngx_open_file(path.data, NGX_FILE_RDONLY | NGX_FILE_NONBLOCK, NGX_FILE_OPEN, 0);
    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, "open() of key_file \"%V\" failed", &path);
        return NGX_ERROR;
    }
    const ngx_int_t rc = read_opened(cf, path, fd, realm);
    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno, "close() of key_file \"%V\" failed",
                           &path);
    }
    return rc;
}

}  // namespace sg::ngx
