# What a newcomer types. `make help` lists it.
#
#   make demo                        the SLA monitor on this machine, nothing to install
#   make demo DELAY=10s              the same with slow processing: the SLA is missed
#   make demo KAFKA_BOOTSTRAP=localhost:9094 ELASTICSEARCH_URL=http://localhost:9200
#   make test                        every check, real Kafka and Elasticsearch included
#   make long                        what takes minutes: slow plugins, memory, an hour's worth of checkpoints
#   make chaos SEED=7 MINUTES=20     everything fails under load, and nothing may be lost or doubled
#
# Variables of the demo: DELAY, RATE (visits per second), SEED, WINDOWS (end after so many), KAFKA_BOOTSTRAP, ELASTICSEARCH_URL.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET)/release

# Where connectors.yaml looks for plugins.
PLUGIN_DIR := plugins.d
PLUGIN_CRATES := reduce-visit latency-window elasticsearch
PLUGIN_PACKAGES := $(addprefix weir-,$(PLUGIN_CRATES))
PLUGIN_LIBRARIES := $(addsuffix .so,$(addprefix $(RELEASE)/libweir_,$(subst -,_,$(PLUGIN_CRATES))))

# Only what was given: an empty variable would be read as a wrong number.
DEMO_VARIABLES := DELAY RATE SEED WINDOWS KAFKA_BOOTSTRAP ELASTICSEARCH_URL
DEMO_ENVIRONMENT = $(foreach name,$(DEMO_VARIABLES),$(if $($(name)),$(name)='$($(name))'))
unexport $(DEMO_VARIABLES)

# An empty one is a seed of its own choice.
CHAOS_ARGUMENTS = $(if $(SEED),--seed '$(SEED)') $(if $(MINUTES),--minutes '$(MINUTES)')

.PHONY: help build demo test long bench chaos docs

help:
	@printf '%s\n' \
	    'make build   release build of host, plugins and demo; plugins go to $(PLUGIN_DIR)/' \
	    'make demo    the SLA monitor on this machine  [DELAY=10s RATE= SEED= WINDOWS= KAFKA_BOOTSTRAP= ELASTICSEARCH_URL=]' \
	    'make test    every check, on real servers (needs Java 17 and Maven)' \
	    'make long    what only minutes can show: slow plugins, memory, an hour of checkpoints (needs Java 17 and Maven)' \
	    'make bench   cost and speed against a bare client loop (needs Java 17 and Maven)  [BENCH="--rounds 5"]' \
	    'make chaos   kills, stops and cuts off hosts and servers under load, then judges  [SEED=7 MINUTES=20]' \
	    'make docs    writes the generated reference in docs/'

build:
	@dev/need cargo cc c++
	$(CARGO) build --release --locked --package weir --package weir-demo $(addprefix --package ,$(PLUGIN_PACKAGES))
	@install -D --mode=0644 --target-directory=$(PLUGIN_DIR) $(PLUGIN_LIBRARIES)

# The demo reads Ctrl-C itself and drains; make only has to wait for it.
demo: build
	@$(DEMO_ENVIRONMENT) exec $(RELEASE)/weir-demo

test:
	@dev/check

# One at a time: each measures, or keeps a pace, on cores of its own.
long:
	@dev/need cargo cc c++ java mvn
	$(CARGO) build --locked --workspace --all-targets
	WEIR_LONG=1 $(TARGET)/debug/weir-dev with-servers -- $(CARGO) test --locked --workspace --test long -- --nocapture --test-threads=1

bench:
	@dev/need cargo cc c++ java mvn
	$(CARGO) build --release --locked --workspace
	$(RELEASE)/weir-dev bench $(BENCH)

chaos:
	@dev/need cargo cc c++ java mvn
	$(CARGO) build --release --locked --workspace
	$(RELEASE)/weir-dev chaos $(CHAOS_ARGUMENTS)

docs:
	@dev/need cargo cc c++
	$(CARGO) build --locked --workspace
	$(TARGET)/debug/weir-dev docs
