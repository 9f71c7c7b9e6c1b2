# One word for each thing a person does; `make` lists them. The longer work is done by the
# scripts in t/tools/. The module's own flags, folders and libraries are written in `config`.

PORT          ?= 8443
FUZZ_SECONDS  ?= 20
FUZZ_PARALLEL ?= 2
CHAOS_SECONDS ?= 300
TESTS         ?= $(wildcard t/*.t)
JOBS          ?= $(shell nproc)
NGINX         ?= /usr/sbin/nginx
NGINX_SRC     ?= /usr/share/nginx/src
MODULES_DIR   ?= /usr/lib/nginx/modules

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
ifeq ($(words $(MAKECMDGOALS)),1)
MAKEFLAGS += -j$(JOBS)
endif
ifndef V
.SILENT:
endif

# ---------------------------------------------------------------- sources and flags

from_config = $(shell sed -n 's/^session_guard_$(1)="\(.*\)"$$/\1/p' config)

MODULE    := ngx_http_session_guard_module
FOLDERS   := $(wildcard $(addprefix src/,$(call from_config,folders)))
SOURCES   := $(shell find $(FOLDERS) -name '*.cc' | LC_ALL=C sort)
PURE      := $(filter-out src/nginx/%,$(SOURCES))
THROWING  := $(addsuffix /%,$(addprefix src/,$(call from_config,throwing_folders)))
UNITS     := $(patsubst t/unit/%.cc,%,$(wildcard t/unit/*_test.cc))
UNIT_AIDS := $(filter-out $(UNITS:%=t/unit/%.cc),$(wildcard t/unit/*.cc))
STORE_TESTS := $(patsubst t/store/%.cc,%,$(wildcard t/store/*_test.cc))
STORE_AIDS  := $(filter-out $(STORE_TESTS:%=t/store/%.cc),$(wildcard t/store/*.cc))
# What several threads of a worker, or several workers, use at once; and what that is made of.
TSAN_TESTS := table_threads_test lmdb_contract_test memcached_contract_test
TSAN_PURE  := $(filter-out src/core/web/% src/json/%,$(PURE))
FUZZERS   := $(patsubst t/fuzz/%.cc,%,$(wildcard t/fuzz/*_fuzz.cc))

CXXFLAGS          := $(call from_config,cxxflags) -I src
THROWING_CXXFLAGS := $(call from_config,throwing_cxxflags)
TEST_CXXFLAGS     := -std=c++20 -Wall -Wextra -Werror -I src -I t
LIBS              := $(call from_config,libs)
NGINX_INCS        := -isystem build/nginx $(addprefix -isystem $(NGINX_SRC)/src/,\
                     core event event/modules os/unix http http/modules http/v2)

HARDENED := -O2 -g -fPIC -fstack-protector-strong -D_FORTIFY_SOURCE=2
RELEASE  := $(HARDENED) $(call from_config,gcc_flags)
TESTABLE := $(HARDENED) -DSESSION_GUARD_TEST_CLOCK=1
LINK     := -shared -Wl,-z,relro,-z,now \
            -Wl,--version-script=build/nginx/session_guard/exports.map
UNIT     := -O1 -g -DSG_TEST_STORES
# Warnings are the other builds' business.
# (vptr: src/ has no RTTI.)
SANITIZE_PURE := -fsanitize=address,undefined -fno-sanitize=vptr -fno-omit-frame-pointer -D_GLIBCXX_ASSERTIONS -Wno-error
# Not the checks that nginx itself trips over.
SANITIZE := $(SANITIZE_PURE) -fno-sanitize=alignment,nonnull-attribute,pointer-overflow

# ThreadSanitizer follows the threads of one process: no other processes, no fences (gcc warns of
# these; what lies between ours is atomic words), no nginx.
SANITIZE_THREADS := -fsanitize=thread -g1 -Wno-error -Wno-tsan

# ---------------------------------------------------------------- words

.PHONY: help run test build unit it asan tsan fuzz chaos-trial chaos-mutants bench lint install clean

help: ## prints these words
	sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

run: build | need-run ## nginx in the foreground with conf.example, on https://localhost:8443 (PORT=)
	t/tools/run-demo $(NGINX) $(PORT) build/release

test: ## all that must pass: lint, unit, it, asan, tsan, fuzz; ends with `N passed, N failed`
	t/tools/test lint unit it asan tsan fuzz

build: build/release/$(MODULE).so ## the module for Debian's nginx, in build/release/

unit: $(UNITS:%=build/unit/%) $(STORE_TESTS:%=build/unit/%) ## unit tests of all that does not need nginx
	t/tools/unit unit $^

it: build/test/$(MODULE).so | need-it ## tests against Debian's nginx (TESTS='t/01-x.t' for some)
	TEST_NGINX_BINARY=$(NGINX) TEST_NGINX_MODULE=$(CURDIR)/$< t/tools/it it $(TESTS)

asan: $(UNITS:%=build/unit-asan/%) $(STORE_TESTS:%=build/unit-asan/%) build/asan/$(MODULE).so build/asan/nginx/nginx | need-it
asan: ## unit and it again, module and an nginx of its own under ASan and UBSan
	status=0; \
	t/tools/unit asan-unit $(filter build/unit-asan/%,$^) || status=1; \
	TEST_NGINX_BINARY=$(CURDIR)/build/asan/nginx/nginx TEST_NGINX_ASAN=1 \
	TEST_NGINX_MODULE=$(CURDIR)/build/asan/$(MODULE).so t/tools/it asan-it $(TESTS) || status=1; \
	exit $$status

tsan: $(TSAN_TESTS:%=build/unit-tsan/%) ## what threads and workers share, under ThreadSanitizer
	t/tools/unit tsan $^

fuzz: $(FUZZERS:%=build/fuzz/%) ## every fuzzer for a short time (FUZZ_SECONDS=, FUZZ_PARALLEL=)
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_PARALLEL=$(FUZZ_PARALLEL) t/tools/fuzz $^

chaos-trial: build/test/$(MODULE).so | need-chaos ## nodes and stores under load while everything fails (CHAOS_SECONDS=, CHAOS_SEED=)
	CHAOS_SECONDS=$(CHAOS_SECONDS) TEST_NGINX_BINARY=$(NGINX) TEST_NGINX_MODULE=$(CURDIR)/$< t/tools/it chaos t/chaos/chaos.t

chaos-mutants: build/test/$(MODULE).so | need-chaos ## does chaos-trial find planted mistakes? (long, by hand)
	TEST_NGINX_BINARY=$(NGINX) JOBS=$(JOBS) t/chaos/mutants/run

bench: build | need-bench ## what a request costs, beside its peers
	BENCH_NGINX=$(NGINX) BENCH_MODULE=$(CURDIR)/build/release/$(MODULE).so t/bench/run

lint: build | need-lint ## layers, style, static analysis, the official build (CHECKS= for some)
	NGINX=$(NGINX) NGINX_SRC=$(NGINX_SRC) NGINX_INCS='$(NGINX_INCS)' CXXFLAGS='$(CXXFLAGS)' \
	THROWING='$(THROWING)' THROWING_CXXFLAGS='$(THROWING_CXXFLAGS)' JOBS=$(JOBS) \
	t/tools/lint $(CHECKS)

install: build ## copies the module to /usr/lib/nginx/modules (DESTDIR=, MODULES_DIR=)
	install -D -m 644 build/release/$(MODULE).so $(DESTDIR)$(MODULES_DIR)/$(MODULE).so
	echo "installed; nginx.conf needs, at its top:"
	echo "load_module $(MODULES_DIR)/$(MODULE).so;"

clean: ## removes build/
	rm -rf build

# ---------------------------------------------------------------- Debian packages each word needs

PACKAGES_build := g++ nginx nginx-dev libssl-dev liblmdb-dev libmemcached-dev nlohmann-json3-dev
PACKAGES_run := openssl
PACKAGES_unit := g++ libssl-dev liblmdb-dev libmemcached-dev nlohmann-json3-dev libcmocka-dev perl
PACKAGES_store := $(PACKAGES_unit) memcached
PACKAGES_it := perl curl openssl libio-socket-ssl-perl libprotocol-http2-perl strace memcached nutcracker
PACKAGES_chaos := perl openssl memcached
PACKAGES_source := $(PACKAGES_build) gcc dpkg-dev libpcre2-dev zlib1g-dev
PACKAGES_fuzz := clang libclang-rt-dev g++ libssl-dev liblmdb-dev libmemcached-dev nlohmann-json3-dev
PACKAGES_bench := perl wrk valgrind gnuplot-nox libnginx-mod-http-lua lua-nginx-memcached memcached liblmdb-dev
PACKAGES_lint := clang clang-format clang-tidy cppcheck libperl-critic-perl perl libcmocka-dev

NEEDS := $(addprefix need-,build run unit store it chaos source fuzz bench lint)
.PHONY: $(NEEDS)
$(NEEDS): need-%:
	t/tools/need $(PACKAGES_$*)

# ---------------------------------------------------------------- objects

# $(call objects,FOLDER,PACKAGES,COMPILER AND FLAGS): how src/*.cc becomes build/FOLDER/src/*.o
define objects
build/$(1)/src/%.o: src/%.cc Makefile config | need-$(2)
	mkdir -p $$(@D)
	echo "  $(1) $$<"
	$(3) $(CXXFLAGS) $$(if $$(filter $(THROWING),$$<),$(THROWING_CXXFLAGS)) $(4) -MMD -MP -c -o $$@ $$<
endef
$(eval $(call objects,release,build,g++,$(RELEASE) $(NGINX_INCS)))
$(eval $(call objects,test,build,g++,$(TESTABLE) $(NGINX_INCS)))
$(eval $(call objects,asan,build,g++,-O1 -g -fPIC -DSESSION_GUARD_TEST_CLOCK=1 $(NGINX_INCS) $(SANITIZE)))
$(eval $(call objects,unit,unit,g++,$(UNIT)))
$(eval $(call objects,unit-asan,unit,g++,$(UNIT) $(SANITIZE_PURE)))
$(eval $(call objects,unit-tsan,unit,g++,$(UNIT) $(SANITIZE_THREADS)))
$(eval $(call objects,fuzz,fuzz,clang++,$(UNIT) -fsanitize=fuzzer-no-link $(SANITIZE)))

-include $(shell find build -name '*.d' 2>/dev/null)

# ---------------------------------------------------------------- the module

# nginx's own configure, once, for its generated headers and the three tables of the module.
CONFIGURED := build/nginx/ngx_auto_config.h
$(CONFIGURED): config t/tools/configure | need-build
	mkdir -p build/nginx
	NGINX_SRC=$(NGINX_SRC) flock build/nginx sh -c 'test $@ -nt config || \
	    t/tools/configure build/nginx --add-dynamic-module=$(CURDIR)'
$(foreach s,$(filter src/nginx/%,$(SOURCES)),$(foreach b,release test asan,build/$(b)/$(s:.cc=.o))): | $(CONFIGURED)

build/nginx/tables.o: $(CONFIGURED)
	gcc $(HARDENED) $(NGINX_INCS) -c -o $@ build/nginx/$(MODULE)_modules.c

define shared_object
build/$(1)/$(MODULE).so: $(SOURCES:%.cc=build/$(1)/%.o) build/nginx/tables.o
	echo "  link $$@"
	g++ $(LINK) $(2) -o $$@ $$^ $(LIBS)
endef
$(eval $(call shared_object,release))
$(eval $(call shared_object,test))
$(eval $(call shared_object,asan,-fsanitize=address,undefined))

# Debian's source of nginx, for the builds that nginx-dev is not enough for.
build/source/nginx: t/tools/nginx-source | need-source
	t/tools/nginx-source $(@D)
	touch $@

build/asan/nginx/nginx: t/tools/asan-nginx t/tools/leaks.c t/tools/configure | build/source/nginx
	NGINX=$(NGINX) NGINX_SRC=build/source/nginx t/tools/asan-nginx $(@D) '$(SANITIZE)'

# ---------------------------------------------------------------- unit tests and fuzzers

# Without nginx: these link although src/nginx is left out.
define pure_library
build/$(1)/libcore.a: $(2:%.cc=build/$(1)/%.o)
	rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach folder,unit unit-asan fuzz,$(eval $(call pure_library,$(folder),$(PURE))))
$(eval $(call pure_library,unit-tsan,$(TSAN_PURE)))

# $(call programs,FOLDER,UNDER t/,COMPILER AND FLAGS,WHAT ELSE EACH NEEDS OF t/,LIBRARIES)
define programs
build/$(1)/%: t/$(2)/%.cc $(4:t/%.cc=build/$(1)/t/%.o) build/$(1)/libcore.a Makefile | need-$(2)
	echo "  $(1) $$<"
	$(3) -MMD -MP -o $$@ $$(filter %.cc,$$^) $$(filter %.o,$$^) $$(filter %.a,$$^) $(LIBS) $(5)
endef

define aids
$(4:t/%.cc=build/$(1)/t/%.o): build/$(1)/t/%.o: t/%.cc Makefile | need-$(2)
	mkdir -p $$(@D)
	echo "  $(1) $$<"
	$(3) -MMD -MP -c -o $$@ $$<
endef

AIDS := $(UNIT_AIDS) $(STORE_AIDS)
COMPILE_UNIT := g++ $(TEST_CXXFLAGS) $(UNIT)
COMPILE_ASAN := $(COMPILE_UNIT) $(SANITIZE_PURE)
COMPILE_TSAN := $(COMPILE_UNIT) $(SANITIZE_THREADS)
$(eval $(call programs,unit,unit,$(COMPILE_UNIT),$(UNIT_AIDS),-lcmocka))
build/unit/rotation_model_test build/unit-asan/rotation_model_test: $(wildcard t/unit/rotation/*.cc)
$(eval $(call programs,unit,store,$(COMPILE_UNIT),$(STORE_AIDS),-lcmocka))
$(eval $(call aids,unit,store,$(COMPILE_UNIT),$(AIDS)))
$(eval $(call programs,unit-asan,unit,$(COMPILE_ASAN),$(UNIT_AIDS),-lcmocka))
$(eval $(call programs,unit-asan,store,$(COMPILE_ASAN),$(STORE_AIDS),-lcmocka))
$(eval $(call aids,unit-asan,store,$(COMPILE_ASAN),$(AIDS)))
$(eval $(call programs,unit-tsan,unit,$(COMPILE_TSAN),$(UNIT_AIDS) t/tsan/clocks.cc,-lcmocka))
$(eval $(call programs,unit-tsan,store,$(COMPILE_TSAN),$(STORE_AIDS) t/tsan/clocks.cc,-lcmocka))
$(eval $(call aids,unit-tsan,store,$(COMPILE_TSAN),$(AIDS) t/tsan/clocks.cc))
$(eval $(call programs,fuzz,fuzz,clang++ $(TEST_CXXFLAGS) $(UNIT) -fsanitize=fuzzer $(SANITIZE)))
