#!/bin/sh
echo "hello, world v2!"
