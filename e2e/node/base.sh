#!/bin/sh
# Removes from the root in $1 what kind's base image removes (sigs.k8s.io/kind images/base/Dockerfile).
set -eu
cd "$1"
find lib/systemd/system/sysinit.target.wants -name systemd-tmpfiles-setup.service -delete
rm -f lib/systemd/system/multi-user.target.wants/* etc/systemd/system/*.wants/* lib/systemd/system/local-fs.target.wants/* \
  lib/systemd/system/sockets.target.wants/*udev* lib/systemd/system/sockets.target.wants/*initctl* \
  lib/systemd/system/basic.target.wants/*
echo ReadKMsg=no >>etc/systemd/journald.conf
rm -rf var/lib/apt/lists/* var/cache/apt/* var/log/* usr/share/doc/* usr/share/man/*
