#!/bin/sh

echo "hello, $(cat /file)!"
