#!/bin/sh

echo "hello, $BUILD1 and $RUN1!"
