#!/bin/sh

echo "hello, $BUILD1!"
